"""How plugins make stores, directories and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from zope.interface import Attribute, Interface

from postoffice.interfaces.accounts import IAccountDirectory
from postoffice.interfaces.child_processes import MakeChildProcess
from postoffice.interfaces.reception import IPolicy
from postoffice.interfaces.store import IMailStore
from postoffice.model.config_values import Key
from postoffice.util.executor import Executor

if TYPE_CHECKING:  # the store process does without Twisted
    from postoffice.util.reactor import IReactor


#: The values of a maker's keys; each has the type of its ``Key.kind``.
Options: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class PluginContext:
    """
    What the daemon or the command passes to a maker.

    A store warns the owner of a maildrop when its usage reaches one of ``warnings``, in
    percent of the quota. ``warning_text`` is the mail to send: its subject, an empty
    line, and the body, with $address, $percent, $used and $limit; if it is empty, the
    store uses its own text. ``child_process`` makes a child process; it is None in a
    command. ``network`` is an executor for calls that wait for other servers: they must not
    hold up the disk's threads.
    """

    reactor: IReactor
    executor: Executor
    state: str  # absolute path of the state folder
    hostname: str
    warnings: Sequence[int] = ()
    warning_text: str = ""
    child_process: MakeChildProcess | None = None
    network_executor: Executor | None = None

    @property
    def network(self) -> Executor:
        """The executor for calls that wait for other servers."""
        return self.network_executor or self.executor

    @property
    def workers(self) -> Executor:
        """The executor, by the name that it had in 0.1."""
        return self.executor

    @property
    def apart(self) -> MakeChildProcess | None:
        """``child_process``, by the name that it had in 0.1."""
        return self.child_process


class IMaker(Interface):
    """
    Makes a store, a directory or a policy from its settings.

    ``twisted.plugin.getPlugins`` finds makers. A maker imports the code of what it makes
    in ``make()``, not earlier.
    """

    kind: str = Attribute("the value of ``kind:`` in the YAML that selects this maker")
    keys: Sequence[Key] = Attribute("the other keys; they are checked before ``make`` is called")

    def make(options: Options, context: PluginContext) -> object:
        """
        Make it; it touches no file before its ``start()``.

        ``options`` has a value for each of ``keys``. Raises SettingError.
        """


class IStoreMaker(IMaker):
    """Makes an IMailStore, for ``store:``."""

    def make(options: Options, context: PluginContext) -> IMailStore:
        """See ``IMaker.make``."""


class IDirectoryMaker(IMaker):
    """Makes an IAccountDirectory, for ``accounts:``."""

    def make(options: Options, context: PluginContext) -> IAccountDirectory:
        """See ``IMaker.make``."""


class IPolicyMaker(IMaker):
    """
    Makes an IPolicy, for ``policies:``.

    Every policy has the keys ``services`` (the services whose mail it checks),
    ``timeout`` and ``on_failure`` besides its own. If a maker has a key of the same name,
    the default of that key replaces the common one.
    """

    def make(options: Options, context: PluginContext) -> IPolicy:
        """See ``IMaker.make``."""

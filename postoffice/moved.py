"""Names of before 0.2, of modules and of members: plugins can use them for one version."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

T = TypeVar("T")

#: Old name -> new name, within ``postoffice``: the modules that the manual named to plugin authors.
MOVED = {
    "address": "model.address",
    "device": "model.app_password",
    "downgrading": "protocol",
    "downgrading.messages": "protocol.downgrade",
    "envelope": "model.envelope",
    "errors": "model.errors",
    "listing": "model.listing",
    "office": "daemon",
    "office.build": "daemon.build",
    "office.config": "config.loader",
    "office.source": "config.source",
    "reply": "model.reply",
    "scram": "protocol.scram",
    "settings": "model.config_values",
    "smtp.reception": "server.reception",
}
#: Module -> old name -> new name, of what those modules and others had.
RENAMED = {
    "model.app_password": {"Device": "AppPassword"},
    "model.envelope": {"Visit": "SessionInfo"},
}
#: Module -> name -> the module that has that name now.
ELSEWHERE = {"server.reception": {"Submission": "server.submission"}}
_PACKAGES = {"postoffice.downgrading", "postoffice.office"}


class _Old:
    """
    Finds modules by their old names, with a warning.

    It has no base: ``importlib.abc`` imports many modules that a command needs nowhere else.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix("postoffice.") not in MOVED:
            return None
        return ModuleSpec(fullname, cast(Any, self), is_package=fullname in _PACKAGES)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix("postoffice.")
        new = MOVED[old]
        _warn(f"postoffice.{old}", f"postoffice.{new}")
        there = importlib.import_module(f"postoffice.{new}")
        names = {n: v for n, v in vars(there).items() if not n.startswith("__")}
        names |= {o: getattr(there, n) for o, n in RENAMED.get(new, {}).items()}
        for name, place in ELSEWHERE.get(new, {}).items():
            names[name] = getattr(importlib.import_module(f"postoffice.{place}"), name)
        vars(module).update(names)
        if module.__name__ in _PACKAGES:
            module.__path__ = []


#: Old name -> new name of members of what plugins implement, and of what they are given.
MEMBERS = {
    "accounts": "each_account",
    "account_serving": "account_mail_policy",
    "add_device": "add_app_password",
    "devices": "app_passwords",
    "domain_serving": "domain_mail_policy",
    "kept": "vault_sessions",
    "remove_device": "remove_app_password",
    "sayings": "account_settings",
    "serving": "mail_policy",
    "set_domain_serving": "set_domain_mail_policy",
    "set_serving": "set_mail_policy",
}


def _as_list(each: Callable[..., AsyncIterator[T]]) -> Callable[..., Awaitable[list[T]]]:
    async def accounts(domain: str | None = None) -> list[T]:
        return [one async for one in each(domain)]

    return accounts


def _one_by_one(accounts: Callable[..., Awaitable[list[T]]]) -> Callable[..., AsyncIterator[T]]:
    async def each_account(self: object, domain: str | None = None) -> AsyncIterator[T]:
        for one in await accounts(self, domain):
            yield one

    return each_account


#: Old name -> the member with the old name made of the one with the new name, and the reverse,
#: where they differ not only in their names.
CONVERSIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "accounts": (_as_list, _one_by_one),
}


def _same(member: T) -> T:
    return member


class OldMembers:
    """A mixin: members of a class can be used by their old names."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in MEMBERS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            _warn(f"{type(self).__name__}.{name}", MEMBERS[name])
            to_old, _ = CONVERSIONS.get(name, (_same, _same))
            return to_old(getattr(self, MEMBERS[name]))


def old_fields(**names: str) -> Callable[[type[T]], type[T]]:
    """Let fields of a dataclass be given and read by their old names (``old="new"``)."""

    def decorate(kind: type[T]) -> type[T]:
        init = kind.__init__

        @functools.wraps(init)
        def with_old_names(self: T, *args: object, **given: object) -> None:
            for old, new in names.items():
                if old in given:
                    _warn(f"{kind.__name__}.{old}", new)
                    given[new] = given.pop(old)
            init(self, *args, **given)

        def reader(old: str, new: str) -> property:
            def read(self: T) -> object:
                _warn(f"{kind.__name__}.{old}", new)
                return getattr(self, new)

            return property(read)

        kind.__init__ = with_old_names  # type: ignore[assignment]
        for old, new in names.items():
            setattr(kind, old, reader(old, new))
        return kind

    return decorate


def adopt(plugin: object) -> None:
    """Give a plugin's class the new names of what it implements by the old ones."""
    from zope.interface import providedBy

    kind = type(plugin)
    expected = {name for interface in providedBy(plugin) for name in interface.names(all=True)}
    for old, new in MEMBERS.items():
        if new in expected and hasattr(kind, old) and not hasattr(kind, new):
            _warn(f"{kind.__module__}.{kind.__name__}.{old}", new)
            _, to_new = CONVERSIONS.get(old, (_same, _same))
            setattr(kind, new, to_new(getattr(kind, old)))


def _warn(old: str, new: str, stacklevel: int = 3) -> None:
    warnings.warn(
        f"{old} is now {new}; the old name will not work in the next version",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def install() -> None:
    """Let the old names be found, after all others."""
    if not any(isinstance(finder, _Old) for finder in sys.meta_path):
        sys.meta_path.append(_Old())


def renamed(
    module: str, name: str, table: Mapping[str, str], there: Mapping[str, object]
) -> object:
    """What has another name now; for a module's ``__getattr__``."""
    if name not in table:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _warn(f"{module}.{name}", table[name], 4)
    return there[table[name]]

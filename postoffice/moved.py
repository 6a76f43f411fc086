"""Where modules were before 0.2: plugins can import them by their old names for one version."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
_PACKAGES = {"postoffice.downgrading", "postoffice.office"}


class _Old(Loader, MetaPathFinder):
    """Finds modules by their old names, and warns whoever asks."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.removeprefix("postoffice.") not in MOVED:
            return None
        return ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix("postoffice.")
        new = MOVED[old]
        warnings.warn(
            f"postoffice.{old} is now postoffice.{new}; the old name goes in the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        there = importlib.import_module(f"postoffice.{new}")
        names = {n: v for n, v in vars(there).items() if not n.startswith("__")}
        names |= {o: getattr(there, n) for o, n in RENAMED.get(new, {}).items()}
        vars(module).update(names)
        if module.__name__ in _PACKAGES:
            module.__path__ = []


def install() -> None:
    """Let the old names be found, after all others."""
    if not any(isinstance(finder, _Old) for finder in sys.meta_path):
        sys.meta_path.append(_Old())


def renamed(module: str, name: str, table: Mapping[str, str], there: Mapping[str, Any]) -> Any:
    """What has another name now; for a module's ``__getattr__``."""
    if name not in table:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(
        f"{module}.{name} is now {table[name]}; the old name goes in the next version",
        DeprecationWarning,
        stacklevel=3,
    )
    return there[table[name]]

"""
The plugin interfaces: what a store, an account directory and a policy must do.

A method that returns an Awaitable may be ``async def``. No method blocks. A method
reports a failure by raising a ``PostOfficeError``. Any other exception counts as a bug in
the implementation: the daemon logs the traceback, and the client gets a temporary error.
"""

from __future__ import annotations

from postoffice import moved
from postoffice.interfaces.accounts import (
    IAccountDirectory,
    IAccountListing,
    IAccountPages,
    IAccountRegister,
    IAccountSettings,
    IAddresses,
    IAddressRegister,
    IAliasListing,
    IAppPasswords,
    IBulkRegister,
    IFirstLogins,
    IPasswordUpgrade,
    IPasswordVerifier,
    ITransactions,
)
from postoffice.interfaces.child_processes import (
    ChildProcess,
    Closeable,
    Made,
    MakeChildProcess,
)
from postoffice.interfaces.import_intake import (
    IImportMirror,
    IImportWriter,
    IMaildropIntake,
    IMaildropReader,
    ImportedMessage,
    IncomingMessage,
    MessageDigest,
)
from postoffice.interfaces.maintenance import (
    ExportResult,
    ExportTarget,
    Finding,
    IMaildropExport,
    IMaildropImport,
    IMaildropMaintenance,
    ImportResult,
    ImportSource,
    IRetention,
    IStoreBackup,
    MaildropUsage,
    Piece,
    PurgeCriteria,
    Step,
    VaultSession,
)
from postoffice.interfaces.plugins import (
    IDirectoryMaker,
    IMaker,
    IPolicyMaker,
    IStoreMaker,
    PluginContext,
)
from postoffice.interfaces.queue import Arrived, IMailQueue, IQueueRepair, IQueueStore
from postoffice.interfaces.reception import Fields, IPolicy, IReception, Opinion
from postoffice.interfaces.store import (
    IDelivery,
    IDestination,
    IMailbox,
    IMaildrop,
    IMailStore,
    IQueuedDelivery,
    IText,
)
from postoffice.util.executor import Executor

__all__ = (
    "Arrived",
    "ChildProcess",
    "Closeable",
    "Executor",
    "ExportResult",
    "ExportTarget",
    "Fields",
    "Finding",
    "IAccountDirectory",
    "IAccountListing",
    "IAccountPages",
    "IAccountRegister",
    "IAccountSettings",
    "IAddressRegister",
    "IAddresses",
    "IAliasListing",
    "IAppPasswords",
    "IBulkRegister",
    "IDelivery",
    "IDestination",
    "IDirectoryMaker",
    "IFirstLogins",
    "IImportMirror",
    "IImportWriter",
    "IMailQueue",
    "IMailStore",
    "IMailbox",
    "IMaildrop",
    "IMaildropExport",
    "IMaildropImport",
    "IMaildropIntake",
    "IMaildropMaintenance",
    "IMaildropReader",
    "IMaker",
    "IPasswordUpgrade",
    "IPasswordVerifier",
    "IPolicy",
    "IPolicyMaker",
    "IQueueRepair",
    "IQueueStore",
    "IQueuedDelivery",
    "IReception",
    "IRetention",
    "IStoreBackup",
    "IStoreMaker",
    "IText",
    "ITransactions",
    "ImportResult",
    "ImportSource",
    "ImportedMessage",
    "IncomingMessage",
    "Made",
    "MaildropUsage",
    "MakeChildProcess",
    "MessageDigest",
    "Opinion",
    "Piece",
    "PluginContext",
    "PurgeCriteria",
    "Step",
    "VaultSession",
)

#: Names of 0.1 and what they are now; plugins can use the old names for one version.
_RENAMED = {
    "Workers": "Executor",
    "Surroundings": "PluginContext",
    "IDevices": "IAppPasswords",
    "IAccountSayings": "IAccountSettings",
    "IMaildropCare": "IMaildropMaintenance",
    "ICollection": "IMailbox",
    "Holding": "MaildropUsage",
    "Old": "PurgeCriteria",
    "Kept": "VaultSession",
}


def __getattr__(name: str) -> object:
    return moved.renamed(__name__, name, _RENAMED, globals())

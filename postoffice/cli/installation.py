"""The steps of ``postoffice quickstart``: each makes what is missing, and keeps what is there."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from postoffice.accounts.passwords import generate_password
from postoffice.cli import self_signed
from postoffice.cli.addresses import check_free, check_maildrop_empty
from postoffice.cli.command import CommandContext, Refused
from postoffice.cli.init import (
    CERTIFICATE,
    NAME,
    make_folders,
    settings_of,
    write_configuration,
)
from postoffice.cli.new_password import Password
from postoffice.config import loader
from postoffice.config.settings import Settings
from postoffice.config.template import template
from postoffice.daemon import new_files, privileges
from postoffice.daemon.plugin_makers import find_maker
from postoffice.daemon.plugins import Plugins
from postoffice.model.address import Address
from postoffice.outbound.dkim import NotAKey, SigningKey
from postoffice.server.certificates import CertificateFiles, Unusable, load
from postoffice.server.dkim_keys import OLD, DKIMKeys

#: Root's post office, as docs/install.rst and the unit have it.
FOLDER, STATE, USER = "/etc/postoffice", "/var/lib/postoffice", "postoffice"
#: Where certbot keeps the newest certificate of each host.
CERTBOT = "/etc/letsencrypt/live"
_HOOK = """\
#!/bin/sh
# certbot runs this after a renewal: the post office reads copies, as its own user.
[ "$RENEWED_LINEAGE" = "{lineage}" ] || exit 0
install -o {user} -m 0400 "$RENEWED_LINEAGE/privkey.pem" "{key}"
install -o {user} -m 0444 "$RENEWED_LINEAGE/fullchain.pem" "{certificate}"
"""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The post office to set up; ``user`` is None if the daemon runs as the current user."""

    address: Address
    folder: str
    state: str
    hostname: str
    user: str | None
    direct: bool
    certificates: str

    @property
    def domain(self) -> str:
        return self.address.normal.rpartition("@")[2]

    @property
    def configuration(self) -> str:
        return os.path.join(self.folder, NAME)


@dataclass
class Installation:
    """A post office that is being set up; ``made`` and ``kept`` say what was done."""

    context: CommandContext
    wishes: Wishes
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def configure(self) -> Settings:
        """Make user, folders, certificate and configuration.  Raises Refused, StartupError."""
        path = self.wishes.configuration
        if os.path.lexists(path):
            self.kept.append(path)
            settings = loader.load(path, find_maker)
            self._compare(settings)
            self._user(settings.user, settings.state)
            return settings
        settings_of(self.context, self._text(None), path)  # before anything is made
        found = self._of_certbot()
        owner = self._user(self.wishes.user, self.wishes.state)
        make_folders(self.wishes.folder, self.wishes.state, owner)
        text = self._text(self._certificate(found, owner))
        settings = settings_of(self.context, text, path)
        write_configuration(path, text, owner, False)
        self.made.append(path)
        return settings

    def _compare(self, settings: Settings) -> None:
        """Note which wishes the existing configuration does not fulfil."""
        if self.wishes.direct and settings.outbound is None:
            self.notes.append(
                f"{self.wishes.configuration} is kept and has no outbound: to send to other "
                "domains, add the line `outbound: {}` and run `postoffice reload`"
            )

    def _text(self, certificate: dict[str, str] | None) -> str:
        """Return the configuration; without a certificate it is checked before anything is made."""
        wishes = self.wishes
        state = os.path.join(os.path.abspath(wishes.folder), "state")
        values: dict[str, object] = {
            "hostname": wishes.hostname,
            "postmaster": wishes.address.normal,
            "state": "state" if wishes.state == state else wishes.state,
        }
        if wishes.user is not None:
            values |= {f"listeners.{name}": [place] for name, place in public_places().items()}
        if certificate is not None:
            values["tls.certificates"] = [certificate]
            values |= {"user": wishes.user} if wishes.user is not None else {}
        elif wishes.user is not None:
            values |= {"listeners.submissions": [], "listeners.pop3s": []}
        if wishes.direct:
            values["outbound.routes"] = [{"via": "direct"}]
        return template(values, find_maker)

    def _user(self, name: str | None, home: str) -> privileges.Identity | None:
        """Return the user of the daemon, who is made if missing; None if we are not root."""
        if name is None or not privileges.is_root():
            return None
        try:
            return privileges.Identity.named(name)
        except KeyError:
            _add_user(name, home)
        self.made.append(f"the user {name}")
        return privileges.Identity.named(name)

    def _of_certbot(self) -> CertificateFiles | None:
        """Return certbot's files for our host name, if there are any.  Raises Refused."""
        lineage = os.path.join(self.wishes.certificates, self.wishes.hostname)
        files = CertificateFiles(f"{lineage}/fullchain.pem", f"{lineage}/privkey.pem")
        try:
            os.stat(files.certificate)
            os.stat(files.key)
        except PermissionError:
            self.notes.append(f"{lineage} cannot be read, so its certificate is not used")
            return None
        except OSError:
            return None
        try:
            load(files)
        except Unusable as error:
            raise Refused(f"{error}; mend or move the files, and run this again") from None
        return files

    def _certificate(
        self, found: CertificateFiles | None, owner: privileges.Identity | None
    ) -> dict[str, str]:
        """Return certificate and key as the configuration names them."""
        wishes = self.wishes
        folder = os.path.join(wishes.folder, "tls")
        if found is None:
            files = {name: os.path.join(folder, f"{name}.pem") for name in CERTIFICATE}
            if all(map(os.path.exists, files.values())):
                self.kept.append(f"the certificate in {folder}")
                return CERTIFICATE
            self_signed.write(folder, (wishes.hostname, wishes.domain), owner)
            self.made.append(f"a self-signed certificate in {folder}")
            self.notes.append(
                "mail programs do not trust the self-signed certificate: get one from a "
                f"certificate authority, for {wishes.hostname}; see docs/tls.rst"
            )
            return CERTIFICATE
        if owner is None:
            self.kept.append(f"the certificate {found.certificate}")
            return {"certificate": found.certificate, "key": found.key}
        self._copy(found, folder, owner)
        return CERTIFICATE

    def _copy(self, found: CertificateFiles, folder: str, owner: privileges.Identity) -> None:
        """Copy certbot's files, which only root can read; a hook copies renewed ones."""
        try:
            new_files.folder(folder, 0o700, owner)
            for name, source in (("certificate", found.certificate), ("key", found.key)):
                with open(source, "rb") as file:
                    octets = file.read()
                with new_files.file(os.path.join(folder, f"{name}.pem"), 0o400, owner) as copy:
                    copy.write(octets)
            self.made.append(f"copies of {found.certificate} and its key in {folder}")
        except FileExistsError:
            self.kept.append(f"the certificate in {folder}")
        except OSError as error:
            raise Refused(f"{error.filename or folder}: {error.strerror}") from error
        self._hook(os.path.dirname(found.certificate), folder, owner)

    def _hook(self, lineage: str, folder: str, owner: privileges.Identity) -> None:
        above = os.path.dirname(self.wishes.certificates.rstrip("/"))
        hook = os.path.join(above, "renewal-hooks", "deploy", "postoffice")
        files = {name: os.path.join(os.path.abspath(folder), f"{name}.pem")
                 for name in CERTIFICATE}  # fmt: skip
        try:
            with new_files.file(hook, 0o755) as file:
                file.write(_HOOK.format(lineage=lineage, user=owner.name, **files).encode())
            self.made.append(f"{hook}, which copies renewed certificates")
        except FileExistsError:
            self.kept.append(hook)
        except OSError as error:
            self.notes.append(
                f"{hook} cannot be written ({error.strerror}): copy renewed certificates to "
                f"{folder} in another way; see docs/tls.rst"
            )

    async def add_account(self, settings: Settings) -> Password | None:
        """Add domain and account; return the new password, None if the account was there."""
        name = self.wishes.address.normal
        password = Password(generate_password().encode(), True)

        with self._acting(settings):
            async with self.context.open(settings) as plugins:
                new = await self._add(plugins, name, password)
        (self.made if new else self.kept).append(f"the account {name}")
        return password if new else None

    async def _add(self, plugins: Plugins, name: str, password: Password) -> bool:
        """Return whether the account is new.  Raises ChangeRefused."""
        domain = self.wishes.domain
        if await plugins.register.add_domain(domain):
            self.made.append(f"the domain {domain}")
        if await plugins.find(name) is not None:
            return False
        await check_free(plugins, name)
        await check_maildrop_empty(plugins, name)
        return await plugins.register.add(name, *password.hashed())

    def sign(self, settings: Settings) -> list[SigningKey]:
        """Return the DKIM keys of the domain; they are made if mail leaves and there are none."""
        domain = self.wishes.domain
        keys = DKIMKeys(settings.state)
        try:
            with self._acting(settings):
                entries = keys.entries(domain)
                if not entries and settings.outbound is not None:
                    entries = keys.add(domain, time.time())
                    self.made.append(f"DKIM keys of {domain}")
                elif entries:
                    self.kept.append(f"the DKIM keys of {domain}")
                return [keys.key(domain, one.selector) for one in entries if one.state != OLD]
        except NotAKey as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"{error.filename}: {error.strerror}") from error

    def _acting(self, settings: Settings) -> AbstractContextManager[None]:
        return privileges.acting(privileges.owner_of(settings.user, settings.state))


def public_places() -> dict[str, str]:
    """Return where the services listen for the world: IPv6 and IPv4, if there is IPv6."""
    kind = "tcp6" if _has_ipv6() else "tcp"
    ports = {"smtp": 25, "submission": 587, "submissions": 465, "pop3s": 995}
    return {service: f"{kind}:{port}" for service, port in ports.items()}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::", 0))
    except OSError:
        return False
    return True


def _add_user(name: str, home: str) -> None:
    """Make a user for the daemon, who cannot log in.  Raises Refused."""
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if useradd is None:
        raise Refused(f"there is no user {name}, and no useradd: make the user, or give --user")
    words = [useradd, "--system", "--home-dir", home, "--shell", "/usr/sbin/nologin", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Refused(f"useradd cannot make the user {name}: {done.stderr.strip()}")
    pwd.getpwnam(name)

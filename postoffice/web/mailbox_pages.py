"""The mailbox of an owner: a list without texts, deletion, and bringing deleted mail back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from postoffice.interfaces import (
    IMaildropIntake,
    IMaildropMaintenance,
    IMaildropReader,
    VaultSession,
)
from postoffice.model.address import Account
from postoffice.model.errors import MaildropLocked, NotAllRemoved
from postoffice.web import summaries
from postoffice.web.page_group import PageGroup
from postoffice.web.routes import OWNER, Route
from postoffice.web.values import NotServed, Response, redirect
from postoffice.web.visit import Visit

#: Messages of one page.
PAGE = 50
#: The highest number of a page.
PAGES = 1_000_000
#: Who deletes mail, in English: this page, a session of a mail program, or the daemon (by the name
#: that it uses for a session).
PAGE_ITSELF, PROGRAM = "this page", "a mail program"
REMOVERS = {
    "purge": "an administrator",
    "make-room": "a full mailbox",
    "expire": "the end of its time",
}


@dataclass(frozen=True)
class DeletedMail:
    """What one session deleted and can be brought back; ``by`` says in English who deleted it."""

    session: str
    time: float
    messages: int
    octets: int
    by: str


class MailboxPages(PageGroup):
    """The pages of a maildrop; each asks only for the maildrop of the visit's account."""

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/mail", OWNER, self.listed),
            Route("GET", "/mail/message.eml", OWNER, self.download),
            Route("POST", "/mail/delete", OWNER, self.delete),
            Route("GET", "/mail/deleted", OWNER, self.deleted),
            Route("POST", "/mail/deleted/restore", OWNER, self.restore),
        )

    def _reader(self, account: Account) -> IMaildropReader:
        store = self._context.store
        if not IMaildropIntake.providedBy(store):
            raise NotServed(404, "This mailbox cannot be listed here, only by mail programs.")
        reader: IMaildropReader = store.reader(account.maildrop)
        return reader

    async def listed(self, visit: Visit) -> Response:
        """List a page of messages, the newest first."""
        asked = visit.request.asked("page")
        page = min(max(int(asked), 1), PAGES) if asked.isdecimal() and len(asked) < 8 else 1
        reader, skipped = self._reader(visit.owner), (page - 1) * PAGE
        found = await self._state.executor.run(summaries.newest, reader, skipped, PAGE)
        last = max(-(-found.messages // PAGE), 1)
        if page > last:
            return redirect(f"/mail?page={last}")
        return self._pages.page(visit, "mail.html", found=found, number=page, last=last)

    async def download(self, visit: Visit) -> Response:
        """Send one message as a file, never as a page."""
        uidl = visit.request.asked("uidl")
        reader = self._reader(visit.owner)
        try:
            octets = await self._state.executor.run(summaries.whole, reader, uidl)
        except ValueError:
            raise NotServed(413, "This message is too large for a browser: fetch it by a mail "
                            "program.") from None  # fmt: skip
        if octets is None:
            raise NotServed(404, "This message is not there any more.")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(uidl, safe='')}.eml"
        }
        return Response(200, octets, "message/rfc822", headers)

    async def delete(self, visit: Visit) -> Response:
        """Delete the chosen messages; they are kept for a while, as those of any session are."""
        chosen = frozenset(visit.request.form.get("uidl", ())[:PAGE])
        back = "/mail"
        page = visit.filled("page")
        if page.isdecimal() and len(page) < 8:
            back = f"/mail?page={page}"
        session = visit.own_session
        if not chosen:
            session.say(visit.text("No message was chosen."), "failed")
            return redirect(back)
        try:
            removed = await self._remove(visit.owner, chosen, f"web-{session.id}")
        except MaildropLocked:
            self._say_in_use(visit)
            return redirect(back)
        except NotAllRemoved as failure:
            removed = failure.removed
            session.say(visit.text("Not all messages could be deleted."), "failed")
        self._context.note_change(visit, f"{removed} messages deleted")
        if removed:
            session.say(visit.text("Deleted: %(count)s.", count=removed))
        return redirect(back)

    async def _remove(self, account: Account, uidls: Collection[str], session: str) -> int:
        """Remove messages as a session of a mail program does."""
        maildrop = self._context.store.maildrop(account.maildrop)
        try:
            listing = await maildrop.open()
            entries = summaries.chosen(listing.entries, uidls)
            if entries:
                await maildrop.remove(entries, session)
        finally:
            maildrop.release()
        return len(entries)

    def _say_in_use(self, visit: Visit) -> None:
        text = "A mail program is fetching mail at the moment. Try again in a minute."
        visit.own_session.say(visit.text(text), "failed")

    # -- deleted mail ------------------------------------------------------------------------

    async def deleted(self, visit: Visit) -> Response:
        """List what was deleted, by session, and can be brought back."""
        kept = [self._described(one) for one in await self._vault(visit.owner)]
        return self._pages.page(visit, "deleted.html", kept=kept[::-1])

    async def _vault(self, account: Account) -> Sequence[VaultSession]:
        store = self._context.store
        if not IMaildropMaintenance.providedBy(store):
            return ()
        sessions: Sequence[VaultSession] = await store.vault_sessions(account.maildrop)
        return [one for one in sessions if one.messages]

    def _described(self, one: VaultSession) -> DeletedMail:
        by = PAGE_ITSELF if one.session.startswith("web-") else PROGRAM
        by = REMOVERS.get(one.session, by)
        return DeletedMail(one.session, one.time, one.messages, one.octets, by)

    async def restore(self, visit: Visit) -> Response:
        """Bring back what one session deleted."""
        wanted = visit.filled("session")
        known = {one.session for one in await self._vault(visit.owner)}
        session, back = visit.own_session, 0
        if wanted in known:
            try:
                back = await self._context.store.undelete(  # type: ignore[attr-defined]
                    visit.owner.maildrop, wanted, 0.0
                )
            except MaildropLocked:
                self._say_in_use(visit)
                return redirect("/mail/deleted")
        if not back:
            session.say(visit.text("Nothing of that is kept any more."), "failed")
            return redirect("/mail/deleted")
        self._context.note_change(visit, f"{back} messages brought back")
        session.say(visit.text("Brought back: %(count)s.", count=back))
        return redirect("/mail")

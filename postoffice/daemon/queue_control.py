"""Answers the ``postoffice queue`` commands over the control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain

from postoffice.daemon.control_socket import Lines
from postoffice.interfaces.relay import Undeliverable
from postoffice.model.errors import PostOfficeError
from postoffice.queue.manager import QueueManager
from postoffice.queue.queue_db import Row
from postoffice.queue.selection import Selection


class QueueControl:
    """Answers the command ``queue``: ``do`` says what to do, and with which messages."""

    def __init__(self) -> None:
        self._doing: dict[str, Callable[[QueueManager, Mapping[str, object]], Awaitable[Lines]]] = {
            "note": self._note,
            "retry": self._retry,
            "hold": self._hold,
            "release": self._release,
            "remove": self._remove,
            "bounce": self._bounce,
            "pause": self._pause,
            "resume": self._resume,
            "destinations": self._destinations,
            "test": self._test,
        }

    async def answer(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        """Do what is asked; the lines are the recipients that have changed, or one failure."""
        do = self._doing.get(str(question.get("do")))
        if do is None:
            return iter([{"failed": "the daemon does not know this command: restart it"}])
        try:
            return await do(manager, question)
        except (PostOfficeError, ValueError) as error:
            return iter([{"failed": str(error)}])

    async def _note(self, manager: QueueManager, _: Mapping[str, object]) -> Lines:
        await manager.noted()
        return iter(())

    async def _retry(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        return _lines(await manager.admin.retry(Selection.read(question)))

    async def _hold(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        why = str(question.get("why") or "by an administrator")
        return _lines(await manager.admin.hold(Selection.read(question), why))

    async def _release(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        return _lines(await manager.admin.release(Selection.read(question)))

    async def _remove(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        return await self._portion(manager, question, manager.admin.remove)

    async def _bounce(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        return await self._portion(manager, question, manager.bounce)

    async def _portion(
        self,
        manager: QueueManager,
        question: Mapping[str, object],
        change: Callable[[Selection], Awaitable[list[Row]]],
    ) -> Lines:
        """Change a portion of the messages; the last line says where the next one begins."""
        selection = Selection.read(question)
        portion, after = await manager.admin.portion(selection)
        lines = _lines(await change(portion))
        return chain(lines, [{"after": after}] if after else [])

    async def _pause(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        await manager.pause(str(question["domain"]))
        return iter(())

    async def _resume(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        resumed = await manager.resume(str(question["domain"]))
        return iter([{"resumed": resumed}])

    async def _destinations(self, manager: QueueManager, _: Mapping[str, object]) -> Lines:
        return iter(await manager.destinations())

    async def _test(self, manager: QueueManager, question: Mapping[str, object]) -> Lines:
        try:
            way, plan = await manager.plan(str(question["address"]), str(question["sender"]))
        except Undeliverable as failure:
            return iter([{"failed": failure.reply.text, "code": failure.reply.code,
                          "status": failure.reply.status}])  # fmt: skip
        hosts = [
            {"host": hop.host, "address": hop.address, "port": hop.port, "tls": hop.level,
             "implicit": hop.implicit, "lmtp": hop.lmtp}
            for hop in plan.hops
        ]  # fmt: skip
        return iter([{"route": way, "destination": plan.site, "hosts": hosts}])


def _lines(rows: Sequence[Row]) -> Lines:
    for row in rows:
        yield {"id": row.id, "recipients": row.recipients.split()}

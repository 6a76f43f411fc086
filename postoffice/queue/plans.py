"""Makes the plans of how domains are reached, also during a reload."""

from __future__ import annotations

from postoffice.interfaces.relay import Plan, Relay, Undeliverable
from postoffice.model.queued_message import QueuedMessage, QueuedRecipient


class Plans:
    """Asks ``relay``, which a reload replaces."""

    relay: Relay

    async def ask(self, way: str, domain: str) -> Plan:
        """
        Find the hosts of a domain.  Raises Undeliverable.

        If a reload ends a lookup, the new relay is asked.
        """
        while True:
            relay = self.relay
            try:
                plan = await relay.plan(way, domain)
            except Undeliverable:
                if relay is self.relay:
                    raise
            else:
                if relay is self.relay:
                    return plan

    async def of_address(self, address: str, sender: str, now: float) -> tuple[str, Plan]:
        """Find the way to an address, without sending anything.  Raises Undeliverable."""
        recipient = QueuedRecipient(address=address)
        message = QueuedMessage(id="", sender=sender, recipients=(recipient,), came=now)
        way = self.relay.way(message, recipient)
        return way, await self.ask(way, recipient.domain.lower())

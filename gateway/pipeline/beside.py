"""The way out beside a mail server: the verdict as changes to the transaction that the server holds.

The server keeps the message for the recipients whose copy stays in its transaction, with the edits that we name; who
needs another copy, or must wait, is taken out of it and gets the message from our store. Refuses to let a recipient go
from the server's transaction before the store has committed that recipient's copy, to trust the server to find a
recipient by a name that it may know otherwise, and to begin an edit before all of it is made: what fails in between
answers 451, and the server keeps the message.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from gateway.errors import CivicgateError, TransformError
from gateway.hold.passage import FIELD
from gateway.model.envelope import Envelope, Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, RecipientGroup, Verdict
from gateway.pipeline.effect import Effect
from gateway.pipeline.rewriting import HeaderEdit, ends, header_edits, split, without
from gateway.pipeline.services import Services
from gateway.pipeline.trace import HeaderFacts
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage
from gateway.wire.command import PathArgument

MARK = FIELD.encode("ascii")
"""Taken off whatever it proves: it is between our store and ourselves."""
_MOST_EDITS = 2000
"""Header edits that a server is asked to make: Postfix's cleanup ends itself at some ten thousand for one message."""
RECIPIENT_OK = Reply.of(250, "2.1.5", "Recipient OK")


class Server(Protocol):
    """The mail server's transaction, as far as a filter may change it."""

    @property
    def can_edit(self) -> bool:
        """Whether it takes changes of header, body and recipients."""

    def can_remove(self, recipient: Recipient) -> bool:
        """Whether it is sure to find the recipient when it is told to take it out; it does not say whether it did."""

    def remove(self, recipient: Recipient) -> None:
        """Take a recipient out."""

    def edit(self, change: HeaderEdit) -> None:
        """Change the header."""

    async def replace_body(self, pieces: Iterator[bytes | memoryview]) -> None:
        """Put another body in the place of the one that came."""

    def discard(self) -> None:
        """Nobody is left: the server says 250 and forgets the message."""


class BesideOutlet:
    """The transaction of the server that asks."""

    __slots__ = ("_server", "_services")

    server_decides = True
    """Who may send through the server, it has decided; a filter sees only what it lets through."""

    def __init__(self, services: Services, server: Server) -> None:
        self._services = services
        self._server = server

    async def recipient(self, envelope: Envelope, path: PathArgument) -> Reply:
        """The server has accepted it, or it would not ask."""
        return RECIPIENT_OK

    async def carry_out(
        self, verdict: Verdict, envelope: Envelope, message: SpooledMessage, facts: HeaderFacts, record: Record
    ) -> Reply:
        """See :class:`BesideEffect`."""
        effect = BesideEffect(self._services, envelope, message, facts, record, None)
        return await effect.tell_server(verdict, self._server)

    def rest(self) -> None:
        """Nothing of ours waits."""

    def abort(self) -> None:
        """Nothing of ours is open."""


class BesideEffect(Effect):
    """One verdict on one message that stays with the server."""

    async def tell_server(self, verdict: Verdict, server: Server) -> Reply:
        """Do it. The reply is for the record, and for the client when it refuses. Raises :class:`CivicgateError`."""
        if verdict.refusal is not None:
            await self._tell(verdict)
            return self._with_id(verdict.refusal)
        groups = self._parted(verdict)
        staying = _staying(groups)
        if staying is None:
            return await self._all_ours(groups, verdict, server)
        others = [group for group in groups if group is not staying]
        if (staying.transforms or others) and not server.can_edit:
            raise CivicgateError("the mail server does not let a milter change mail, and the policy demands it")
        if not all(server.can_remove(recipient) for group in others for recipient in group.recipients):
            return await self._all_ours(groups, verdict, server)
        if staying.transforms:
            return await self._changed(staying, others, verdict, server)
        edits: tuple[HeaderEdit, ...] = ()
        if self._facts.passage and server.can_edit:
            head, _ = split(self._message.chunks())
            edits = header_edits(head, without(head, MARK))
            if len(edits) > _MOST_EDITS:
                return await self._all_ours(groups, verdict, server)
        await self._hand_over(others, verdict, server)
        for edit in edits:
            server.edit(edit)
        return self._ok()

    async def _changed(
        self, staying: RecipientGroup, others: list[RecipientGroup], verdict: Verdict, server: Server
    ) -> Reply:
        """The server's copy needs edits: all are made before the first is sent."""
        try:
            outgoing = await self._transformed(staying)
        except TransformError as error:
            if others:  # as in front of a server: each copy is made on its own, by the outbox
                return await self._all_ours([staying, *others], verdict, server)
            return await self._alone_without(staying, error, verdict, server)
        try:
            head, body = split(outgoing.chunks())
            old_head, old_body = split(self._message.chunks())
            # Postfix puts no body in the place of none, and what we call a body must be the server's
            if len(old_head) == self._message.size or not (ends(old_head) and ends(head)):
                return await self._all_ours([staying, *others], verdict, server)
            edits = header_edits(old_head, without(head, MARK) if self._facts.passage else head)
            if len(edits) > _MOST_EDITS:
                return await self._all_ours([staying, *others], verdict, server)
            changed = not await same(old_body, body)
            await self._hand_over(others, verdict, server)
            for edit in edits:
                server.edit(edit)
            if changed:
                await server.replace_body(split(outgoing.chunks())[1])
        finally:
            outgoing.close()
        return self._ok()

    async def _all_ours(self, groups: list[RecipientGroup], verdict: Verdict, server: Server) -> Reply:
        """Nobody's copy stays with the server: ours first, then it may forget the message."""
        kept = [group for group in groups if group.disposition is not Disposition.DISCARD]
        if kept:
            reply = await self._store(kept, verdict)
        else:
            await self._tell(verdict)
            reply = self._ok()
        server.discard()
        return reply

    async def _alone_without(
        self, group: RecipientGroup, error: TransformError, verdict: Verdict, server: Server
    ) -> Reply:
        """A change could not be made: the rule that wanted it says what then."""
        outcome, left = self._instead(group, error)
        if isinstance(outcome, Reply):
            return outcome
        if outcome is Disposition.HOLD:
            self._record.verdict = replace(verdict, groups=(left,))
            return await self._all_ours([left], verdict, server)
        return await self.tell_server(replace(verdict, groups=(left,)), server)

    async def _hand_over(self, others: list[RecipientGroup], verdict: Verdict, server: Server) -> None:
        """Ours first, then out of the server's transaction."""
        kept = [group for group in others if group.disposition is not Disposition.DISCARD]
        if kept:
            await self._store(kept, verdict)
        else:
            await self._tell(verdict)
        for group in others:
            for recipient in group.recipients:
                server.remove(recipient)

    def _ok(self) -> Reply:
        return Reply.of(250, "2.0.0", f"OK {self._envelope.transaction}")


def _staying(groups: list[RecipientGroup]) -> RecipientGroup | None:
    """Whose copy stays with the server: the one that is not changed, else the one for most people; None for nobody."""
    passing = [group for group in groups if group.disposition is Disposition.PASS]
    return min(passing, key=lambda group: (bool(group.transforms), -len(group.recipients)), default=None)


async def same(one: Iterator[bytes | memoryview], other: Iterator[bytes | memoryview]) -> bool:
    """Whether two streams have the same octets. Others have their turn between the pieces."""
    left = right = memoryview(b"")
    while True:
        left = left or memoryview(next(one, b""))
        right = right or memoryview(next(other, b""))
        if not left or not right:
            return not left and not right
        size = min(len(left), len(right))
        if left[:size] != right[:size]:
            return False
        left, right = left[size:], right[size:]
        if size > 4096:
            await asyncio.sleep(0)

"""The mark on released mail by which the gateway knows it again: what was approved is not held again by the same rules.

A next hop may route a release through the gateway once more. Refuses, beside what :mod:`gateway.hold.marks` refuses, a
mark that goes to other recipients or comes from another sender, and one of an item that is not released: then the
message is held like any other.
"""

from datetime import timedelta

from gateway.errors import OperatorError
from gateway.hold import marks, rows
from gateway.hold.core import Core
from gateway.hold.marks import Claim, Marks
from gateway.hold.states import State
from gateway.hold.values import HeldItem
from gateway.model.envelope import fold
from gateway.model.verdict import Disposition, Mode

FIELD = "X-Civicgate-Release-Proof"
GOOD_FOR = timedelta(days=7)
"""Longer than the outbox tries to deliver."""


class Prover:
    """Makes marks and knows them again."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._marks = Marks(core, "release-proof", GOOD_FOR)

    async def field(self, ident: str, size: int, sha256: str) -> tuple[str, str]:
        """Name and value (folded) of the mark for content that leaves. Raises StoreError, OperatorError."""
        item = await self._item(ident)
        return FIELD, await self._marks.write(item.id, size, sha256, sorted(held_by(item)))

    async def rules(self, claim: Claim) -> frozenset[str]:
        """Ids of the rules that may not hold it again; none for a mark that proves nothing. Raises StoreError."""
        mark = marks.read(claim.value)
        if mark is None:
            return frozenset()
        try:
            item = await self._item(mark.ident)
        except OperatorError:
            return frozenset()
        held = held_by(item)
        return held if _fits(claim, item) and await self._marks.proves(mark, claim, sorted(held)) else frozenset()

    async def _item(self, ident: str) -> HeldItem:
        async with self._core.database.read() as connection:
            return await rows.item_by_id(connection, ident)


def held_by(item: HeldItem) -> frozenset[str]:
    """The rules that held it: whose orders were approved, in this round and in those before."""
    matched = (m.rule for m in item.matches if m.mode is Mode.ENFORCE and m.disposition is Disposition.HOLD)
    return frozenset([*(order.rule for order in item.orders), *matched])


def _fits(claim: Claim, item: HeldItem) -> bool:
    """Whether it goes where it was released to."""
    released = item.state in (State.APPROVED, State.RELEASING, State.RELEASED)
    same = fold(claim.reverse_path) == fold(item.message.reverse_path)
    to = {fold(recipient.address) for recipient in item.recipients}
    return released and same and bool(claim.recipients) and all(fold(address) in to for address in claim.recipients)

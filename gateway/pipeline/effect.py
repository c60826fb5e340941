"""Carries a verdict out: relay while the client waits, or commit to the store first, or refuse.

Refuses to let a message leave without a change that a rule demands: a transform that fails is decided by its rule's
``on_failure``, and encryption never falls back to clear text.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property

from gateway.errors import CivicgateError, TransformError
from gateway.hold import order_for_failure
from gateway.hold.values import Acceptance, HeldGroup, OutgoingGroup
from gateway.metrics import STAGE_SECONDS, TRANSFORM_FAILURES, Distribution
from gateway.model.envelope import Envelope
from gateway.model.reply import Reply
from gateway.model.verdict import (
    STRENGTH,
    Disposition,
    RecipientGroup,
    Transform,
    TransformKind,
    Verdict,
)
from gateway.pipeline.mishap import mishap
from gateway.pipeline.relaying import begin
from gateway.pipeline.services import Outgoing, Relay, Services
from gateway.pipeline.trace import HeaderFacts, on_top, received_field
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage
from gateway.transform import TransformFailed

_transforming = Distribution(STAGE_SECONDS.labels("transform"))
_relaying = Distribution(STAGE_SECONDS.labels("relay"))
_storing = Distribution(STAGE_SECONDS.labels("store"))

_TRANSFORM_DOWN = Reply.of(451, "4.7.1", "A change that the policy requires could not be made, please try again later")
_TRANSFORM_REFUSED = Reply.of(554, "5.7.1", "A change that the policy requires cannot be made to this message")


class Effect:
    """The effect of one verdict on one message. Takes over the transaction with the next hop."""

    def __init__(
        self,
        services: Services,
        envelope: Envelope,
        message: SpooledMessage,
        facts: HeaderFacts,
        record: Record,
        relay: Relay | None,
    ) -> None:
        self._services = services
        self._envelope = envelope
        self._message = message
        self._facts = facts
        self._record = record
        self._relay = relay

    @cached_property
    def _trace(self) -> bytes:
        """Our field on top; a mail server that keeps the message puts its own."""
        envelope, services = self._envelope, self._services
        recipients = tuple(recipient.address for recipient in envelope.recipients[:2])
        return received_field(services.hostname, envelope.transaction, envelope.client, recipients, services.clock())

    async def carry_out(self, verdict: Verdict) -> Reply:
        """Do it, and say what the client is to read. Raises :class:`CivicgateError` with the reply when it fails."""
        try:
            if verdict.refusal is not None:
                await self._tell(verdict)
                return self._with_id(verdict.refusal)
            groups = self._parted(verdict)
            if len(groups) == 1 and groups[0].disposition is Disposition.PASS:
                return await self._pass(groups[0], verdict)
            if all(group.disposition is Disposition.DISCARD for group in groups):
                await self._tell(verdict)
                return Reply.of(250, "2.0.0", f"OK {self._envelope.transaction}")
            return await self._store(groups, verdict)
        finally:
            if self._relay is not None:
                self._relay.abort()

    def _parted(self, verdict: Verdict) -> list[RecipientGroup]:
        """The verdict's groups, one an envelope. Raises CivicgateError when somebody is in none of them."""
        groups = [part for group in verdict.groups for part in by_envelope(group)]
        if sum(len(group.recipients) for group in groups) != len(self._envelope.recipients):
            raise CivicgateError("the verdict does not speak of every recipient")
        return groups

    # --- pass ----------------------------------------------------------------------------------------------------

    async def _pass(self, group: RecipientGroup, verdict: Verdict) -> Reply:
        """One group, nothing held: the next hop's reply is the client's, verbatim."""
        if not group.transforms:
            reply = await self._relay_chunks(self._message.chunks())
            await self._tell(verdict)
            return reply
        try:
            outgoing = await self._transformed(group)
        except TransformError as error:
            return await self._without(group, error, verdict)
        try:
            reply = await self._relay_chunks(outgoing.chunks())
        finally:
            outgoing.close()
        await self._tell(verdict)
        return reply

    async def _transformed(self, group: RecipientGroup) -> Outgoing:
        clock = self._services.clock
        started = clock()
        recipients = tuple(recipient.address for recipient in group.recipients)
        try:
            outgoing = await self._services.transformer.apply(self._message, group.transforms, recipients)
        finally:
            self._record.times["transform"] = clock() - started
            _transforming.observe(self._record.times["transform"])
        self._record.actions.extend(transform.kind.value for transform in group.transforms)
        self._record.notes.extend(outgoing.notes)
        return outgoing

    async def _relay_chunks(self, chunks: Iterator[bytes | memoryview]) -> Reply:
        relay = self._relay
        clock = self._services.clock
        started = clock()
        try:
            if relay is None or relay.lost:  # what is not sent yet can be begun anew
                relay = self._relay = await begin(self._services.next_hop, self._envelope, relay)
            return await relay.send(on_top(self._trace, chunks))
        finally:
            self._record.times["relay"] = clock() - started
            _relaying.observe(self._record.times["relay"])

    async def _without(self, group: RecipientGroup, error: TransformError, verdict: Verdict) -> Reply:
        """A transform could not be made: the rule that wanted it says what then."""
        outcome, left = self._instead(group, error)
        if isinstance(outcome, Reply):
            return outcome
        if outcome is Disposition.PASS:
            return await self._pass(left, verdict)
        reply = await self._store([left], verdict)
        self._record.verdict = replace(verdict, groups=(left,))
        return reply

    def _instead(self, group: RecipientGroup, error: TransformError) -> tuple[Disposition | Reply, RecipientGroup]:
        """The refusal, or hold or pass and the group as it then is."""
        TRANSFORM_FAILURES.labels(error.code).inc()
        self._record.problem = f"{error.code}: {error.detail}"
        failed = failed_transforms(group.transforms, error)
        outcome = max(map(_on_failure, failed), key=STRENGTH.__getitem__)
        if outcome is Disposition.PASS:
            return outcome, replace(group, transforms=tuple(t for t in group.transforms if t not in failed))
        if outcome is Disposition.HOLD:
            order = order_for_failure(failed[0], error)
            return outcome, replace(group, disposition=Disposition.HOLD, holds=(*group.holds, order))
        return _TRANSFORM_REFUSED if outcome is Disposition.REJECT else _TRANSFORM_DOWN, group

    # --- store ---------------------------------------------------------------------------------------------------

    async def _store(self, groups: list[RecipientGroup], verdict: Verdict) -> Reply:
        """Commit everything in one go; from then on the outbox and the approvers have it."""
        clock = self._services.clock
        started = clock()
        kept = tuple(group for group in groups if group.disposition is not Disposition.DISCARD)
        await self._services.store.accept(self._acceptance(kept, verdict))
        self._record.times["store"] = clock() - started
        _storing.observe(self._record.times["store"])
        held = any(group.disposition is Disposition.HOLD for group in kept)
        what = "Accepted, held for a decision" if held else "Accepted for delivery"
        return Reply.of(250, "2.0.0", f"{what} as {self._envelope.transaction}")

    def _acceptance(self, groups: tuple[RecipientGroup, ...], verdict: Verdict) -> Acceptance:
        facts = self._facts
        return Acceptance(
            transaction=self._envelope.transaction,
            client=self._envelope.client,
            reverse_path=self._envelope.sender.address,
            message=self._message,
            received=datetime.fromtimestamp(self._services.clock(), UTC),
            parameters=self._envelope.parameters,
            message_id=facts.message_id,
            subject=facts.subject,
            authors=facts.authors,
            automatic=facts.automatic,
            held=tuple(self._held(g) for g in groups if g.disposition is Disposition.HOLD),
            outgoing=tuple(
                OutgoingGroup(g.recipients, g.transforms) for g in groups if g.disposition is Disposition.PASS
            ),
            notices=verdict.notices,
            recipients=self._envelope.recipients,
        )

    def _held(self, group: RecipientGroup) -> HeldGroup:
        return HeldGroup(group.recipients, group.holds, group.transforms, group.matches)

    async def _tell(self, verdict: Verdict) -> None:
        """Notices of a message that is not in the store. Losing one loses no mail: it is logged, not fatal."""
        if not verdict.notices:
            return
        try:
            await self._services.store.accept(self._acceptance((), verdict))
        except CivicgateError as error:
            self._record.notes.append(f"notice not sent: {error.detail}")
        except Exception as error:  # noqa: BLE001 - the next hop may have the message: only its reply counts now
            mishap("notice", id=self._envelope.transaction)
            self._record.notes.append(f"notice not sent: {type(error).__name__}")

    def _with_id(self, reply: Reply) -> Reply:
        return Reply(
            reply.code, reply.enhanced, (*reply.lines[:-1], f"{reply.lines[-1]} ({self._envelope.transaction})")
        )


def failed_transforms(transforms: tuple[Transform, ...], error: TransformError) -> tuple[Transform, ...]:
    """The transform that ``error`` speaks of, or all of them when it does not say."""
    failed = error.transform if isinstance(error, TransformFailed) else None
    return (failed,) if failed in transforms and failed is not None else transforms


def _on_failure(transform: Transform) -> Disposition:
    """What its rule says; an encryption that fails never passes, whatever somebody managed to write."""
    if transform.kind is TransformKind.ENCRYPT and transform.on_failure is Disposition.PASS:
        return Disposition.DEFER
    return transform.on_failure


def by_envelope(group: RecipientGroup) -> list[RecipientGroup]:
    """Encrypted mail goes to each recipient on its own: the list of keys in one message would betray a Bcc.

    What is held stays one item, so that it is decided once; it is parted when it is released.
    """
    passes = group.disposition is Disposition.PASS
    if passes and len(group.recipients) > 1 and any(t.kind is TransformKind.ENCRYPT for t in group.transforms):
        return [replace(group, recipients=(recipient,)) for recipient in group.recipients]
    return [group]

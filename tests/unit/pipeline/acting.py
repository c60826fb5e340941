"""What the effect's tests share: a verdict carried out by a real gateway, and neighbours that fail on demand."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.app import Gateway
from gateway.errors import StoreError
from gateway.hold.values import Acceptance
from gateway.model.envelope import Client, Direction, Envelope, Recipient, Sender
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, RecipientGroup, Transform, TransformKind, Verdict
from gateway.pipeline.effect import Effect
from gateway.pipeline.services import Outgoing, Services, Store, Transformer
from gateway.pipeline.trace import header_facts
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage

SECRET = b"the secret is 4711"
MESSAGE = b"From: a@city.example\r\nTo: b@city.example\r\nSubject: about it\r\n\r\n" + SECRET + b"\r\n"
CLIENT = Client("127.0.0.1", helo="client.example", inside=True)


def recipients(*addresses: str) -> tuple[Recipient, ...]:
    """Recipients, outside unless they are the city's."""
    return tuple(
        Recipient(a, Direction.INTERNAL if a.endswith("@city.example") else Direction.OUTBOUND) for a in addresses
    )


def group(to: str, disposition: Disposition = Disposition.PASS, *transforms: Transform) -> RecipientGroup:
    """A group; ``to`` has its addresses, with spaces between."""
    return RecipientGroup(recipients(*to.split()), disposition, transforms)


def change(kind: TransformKind, on_failure: Disposition = Disposition.DEFER) -> Transform:
    """A transform of each kind that can be seen in the result."""
    return Transform(
        kind, f"rule-{kind}", id=kind, lines=(f"put by {kind}",), name="X-Put", value="put by header",
        methods=("smime",), wordings=("put by",), on_failure=on_failure,
    )  # fmt: skip


class FailingTransformer:
    """The real transformer, but ``fail`` may raise first."""

    def __init__(self, real: Transformer, fail: Callable[[tuple[Transform, ...]], None]) -> None:
        self._real, self._fail = real, fail
        self.asked: list[tuple[Transform, ...]] = []

    async def apply(
        self, message: SpooledMessage, transforms: tuple[Transform, ...], recipients: tuple[str, ...]
    ) -> Outgoing:
        """As the real one, unless it fails."""
        self.asked.append(transforms)
        self._fail(transforms)
        return await self._real.apply(message, transforms, recipients)


class FullStore:
    """A store whose disk is full."""

    async def accept(self, acceptance: Acceptance) -> None:
        """Never."""
        raise StoreError("no space left on device")


class CountingStore:
    """The real store, and what it was asked to keep."""

    def __init__(self, real: Store) -> None:
        self._real = real
        self.asked: list[Acceptance] = []

    async def accept(self, acceptance: Acceptance) -> None:
        """As the real one."""
        self.asked.append(acceptance)
        await self._real.accept(acceptance)


def install(gateway: Gateway, **changes: Any) -> Services:
    """Put fakes into the gateway, for transactions and for the outbox."""
    services = replace(gateway.pipeline.services, **changes)
    gateway.pipeline.install(services)
    return services


async def carry_out(gateway: Gateway, verdict: Verdict, message: bytes = MESSAGE) -> tuple[Reply, Record]:
    """Open a transaction with the next hop for all recipients and carry the verdict out."""
    services = gateway.pipeline.services
    to = tuple(recipient for one in verdict.groups for recipient in one.recipients)
    envelope = Envelope(services.new_id(), CLIENT, Sender("a@city.example"), to)
    relay = await services.next_hop.begin(CLIENT, "a@city.example", (), envelope.transaction)
    for recipient in to:
        assert (await relay.rcpt(recipient.address)).positive
    facts = header_facts(message)
    record = Record(envelope, len(message), facts.message_id, {})
    record.verdict = verdict
    effect = Effect(services, envelope, SpooledMessage.of(message), facts, record, relay)
    return await effect.carry_out(verdict), record


async def outbox_empty(gateway: Gateway, seconds: float = 10.0) -> None:
    """Until nothing waits in the outbox."""
    assert gateway._hold is not None
    async with asyncio.timeout(seconds):
        while (await gateway._hold.queue_facts()).outbox:
            await asyncio.sleep(0.05)

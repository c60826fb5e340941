"""Delivers one row of the outbox: copy the sealed body, make the changes that are due, hand it to the next hop.

What is released is not inspected again; a trace field says so. Refuses to send a body whose digest is not the one that
was accepted, and to leave out a change that a rule demands.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace

from gateway.errors import NextHopError
from gateway.hold import Delivery, DeliveryResult
from gateway.hold.passage import FIELD
from gateway.metrics import TRANSFORM_FAILURES
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, TransformKind
from gateway.pipeline.rewriting import split, without
from gateway.pipeline.services import Outgoing, Services
from gateway.pipeline.trace import has_message_id, header_facts, on_top, received_field
from gateway.spool import SpooledMessage
from gateway.transform import TransformFailed


async def deliver_from_store(services: Services, delivery: Delivery) -> DeliveryResult:
    """One attempt. Raises NextHopError, TransformError, StoreError: the outbox knows what to do with each."""
    writer = services.spool.new(delivery.id)
    try:
        await delivery.copy(writer.write)
        message = writer.close()
    except BaseException:
        writer.abort()
        raise
    try:
        if header_facts(message.buffer).passage:
            delivery, message = await _without_forged_marks(services, delivery, message)
        return await _deliver(services, _identified(delivery, message), message)
    finally:
        message.close()


async def _without_forged_marks(
    services: Services, delivery: Delivery, message: SpooledMessage
) -> tuple[Delivery, SpooledMessage]:
    """A mark of passage that came with a message is nobody's of ours. Closes the message. Raises StoreError.

    Not in a thread: the parser is not for two at once. Others have their turn between the pieces.
    """
    writer = services.spool.new(delivery.id)
    try:
        head, body = split(message.chunks())
        writer.write(without(head, FIELD.encode("ascii")))
        for piece in body:
            writer.write(piece)
            await asyncio.sleep(0)
        stripped = writer.close()
    except BaseException:
        writer.abort()
        raise
    try:
        sha256 = await asyncio.to_thread(stripped.sha256)
    except BaseException:
        stripped.close()
        raise
    message.close()
    return replace(delivery, sha256=sha256), stripped


def _identified(delivery: Delivery, message: SpooledMessage) -> Delivery:
    """With a Message-ID where the message has none (RFC 5322 section 3.6.4, RFC 6409 section 8.3).

    The next hop would make one at each attempt, and what came twice could not be told for one.
    """
    if has_message_id(message.buffer):
        return delivery
    return replace(delivery, trace=(*delivery.trace, ("Message-ID", delivery.message_id)))


async def _deliver(services: Services, delivery: Delivery, message: SpooledMessage) -> DeliveryResult:
    if not delivery.transforms:
        proven = await _proven(delivery, message.size, delivery.sha256)
        return await _relay(services, proven, _trace(services, proven), message.chunks())
    if len(delivery.recipients) > 1 and any(t.kind is TransformKind.ENCRYPT for t in delivery.transforms):
        return await _one_by_one(services, delivery, message)
    outgoing = await _transformed(services, delivery, message)
    try:
        proven = await _proven_outgoing(delivery, outgoing)
        return await _relay(services, proven, _trace(services, proven), outgoing.chunks())
    finally:
        outgoing.close()


async def _proven(delivery: Delivery, size: int, sha256: str) -> Delivery:
    """With the marks by which it is known again: a release, and any copy where the next hop asks us."""
    fields = []
    if delivery.prove is not None:
        fields.append(await delivery.prove(size, sha256))
    if delivery.mark is not None:
        recipients = tuple(recipient.address for recipient in delivery.recipients)
        fields.append(await delivery.mark(delivery.reverse_path, recipients, size, sha256))
    return replace(delivery, trace=(*delivery.trace, *fields)) if fields else delivery


async def _proven_outgoing(delivery: Delivery, outgoing: Outgoing) -> Delivery:
    if delivery.prove is None and delivery.mark is None:
        return delivery
    size, sha256 = await asyncio.to_thread(_digest, outgoing)
    return await _proven(delivery, size, sha256)


def _digest(outgoing: Outgoing) -> tuple[int, str]:
    """Octets and SHA-256 of the content as it leaves."""
    size, total = 0, hashlib.sha256()
    for chunk in outgoing.chunks():
        size += len(chunk)
        total.update(chunk)
    return size, total.hexdigest()


async def _one_by_one(services: Services, delivery: Delivery, message: SpooledMessage) -> DeliveryResult:
    """Encrypted mail goes to each recipient on its own: the list of keys in one message would betray a Bcc.

    Everything is made before anything is sent, so that a recipient without a certificate holds all of them rather than
    have some get it twice. Each recipient's reply is the one that settled its own message.
    """
    parts = [replace(delivery, recipients=(recipient,)) for recipient in delivery.recipients]
    made: list[Outgoing] = []
    try:
        for part in parts:
            made.append(await _transformed(services, part, message))  # noqa: PERF401 - closed below, also half of them
        results = [
            await _relay_or_later(services, await _proven_outgoing(part, outgoing), outgoing.chunks())
            for part, outgoing in zip(parts, made, strict=True)
        ]
    finally:
        for outgoing in made:
            outgoing.close()
    settled = [result.final or result.replies[0] for result in results]
    return DeliveryResult(tuple(settled), next((reply for reply in settled if reply.positive), None))


async def _relay_or_later(
    services: Services, delivery: Delivery, chunks: Iterator[bytes | memoryview]
) -> DeliveryResult:
    """As :func:`_relay`; a next hop that fails has given its answer for this recipient only: try again later."""
    try:
        return await _relay(services, delivery, _trace(services, delivery), chunks)
    except NextHopError as error:
        return DeliveryResult((error.reply,))


async def _transformed(services: Services, delivery: Delivery, message: SpooledMessage) -> Outgoing:
    """All transforms applied but those whose rule says that the message may pass without them."""
    recipients = tuple(recipient.address for recipient in delivery.recipients)
    transforms = delivery.transforms
    while True:
        try:
            return await services.transformer.apply(message, transforms, recipients)
        except TransformFailed as error:
            failed = error.transform
            if failed.on_failure is not Disposition.PASS or failed.kind is TransformKind.ENCRYPT:
                raise
            TRANSFORM_FAILURES.labels(error.code).inc()
            transforms = tuple(transform for transform in transforms if transform != failed)


async def _relay(
    services: Services, delivery: Delivery, trace: bytes, chunks: Iterator[bytes | memoryview]
) -> DeliveryResult:
    # SIZE= is of the message as it came; our trace fields and changes make it larger, so it is left out
    parameters = tuple(p for p in delivery.parameters if p.partition("=")[0].upper() != "SIZE")
    relay = await services.next_hop.begin(delivery.client, delivery.reverse_path, parameters, delivery.transaction)
    try:
        replies: list[Reply] = []
        for recipient in delivery.recipients:
            replies.append(await relay.rcpt(recipient.address, recipient.parameters))  # noqa: PERF401 - one by one
        if not any(reply.positive for reply in replies):
            return DeliveryResult(tuple(replies))
        final = await relay.send(on_top(trace, chunks))
    finally:
        relay.abort()
    return DeliveryResult(tuple(replies), final)


def _trace(services: Services, delivery: Delivery) -> bytes:
    recipients = tuple(recipient.address for recipient in delivery.recipients)
    field = received_field(services.hostname, delivery.transaction, delivery.client, recipients, time.time())
    return field + "".join(f"{name}: {value}\r\n" for name, value in delivery.trace).encode("ascii", "replace")

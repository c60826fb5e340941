"""Released mail that comes through the gateway once more, and the mark by which it is known then.

Refuses to believe a mark that the store does not know: the message is held like any other, and the record says so.
"""

import asyncio
import hashlib
from functools import partial

from gateway.errors import StoreError
from gateway.hold.marks import Claim
from gateway.model.envelope import Envelope
from gateway.model.verdict import Disposition, Verdict
from gateway.pipeline.services import Services
from gateway.pipeline.trace import HeaderFacts
from gateway.policy.released import pardoned
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage

INLINE = 262_144
"""Octets up to which a digest is computed on the event loop."""


async def known_again(
    services: Services,
    verdict: Verdict,
    envelope: Envelope,
    message: SpooledMessage,
    facts: HeaderFacts,
    record: Record,
) -> Verdict:
    """The verdict, without holds by rules that have been approved for this very message. Raises StoreError (451)."""
    held = verdict.refusal is None and any(group.disposition is Disposition.HOLD for group in verdict.groups)
    if services.releases is None or not held or not (value := facts.proof):
        return verdict
    claim = _claim(value, envelope, message)
    rules = await services.releases.rules(claim)
    record.notes.append(f"released before: {', '.join(sorted(rules))}" if rules else "its release proof proves nothing")
    return pardoned(verdict, rules)


async def may_pass(
    services: Services, envelope: Envelope, message: SpooledMessage, facts: HeaderFacts, record: Record
) -> bool:
    """Whether it is a copy of ours on its way out, by a mark that is used up now. Raises StoreError (451)."""
    if services.passages is None or not facts.passage:
        return False
    good = await services.passages.use(_claim(facts.passage, envelope, message))
    record.notes.append("our own copy" if good else "its mark of passage is not ours, or was used")
    return good


def _claim(value: str, envelope: Envelope, message: SpooledMessage) -> Claim:
    return Claim(
        value=value,
        reverse_path=envelope.sender.address,
        recipients=tuple(recipient.address for recipient in envelope.recipients),
        size=message.size,
        head=lambda count: bytes(message.buffer[:count]),
        digest=partial(_last, message),
    )


async def _last(message: SpooledMessage, count: int) -> str:
    def work() -> str:
        with memoryview(message.buffer) as view, view[message.size - count :] as tail:
            return hashlib.sha256(tail).hexdigest()

    if not 0 <= count <= message.size:
        raise StoreError("a release proof of more than there is")  # the caller has compared the sizes
    return work() if count <= INLINE else await asyncio.to_thread(work)

"""A transaction with the next hop for an envelope, also for one whose recipients were accepted before.

The next hop may go away before the content is there (Postfix waits 300 s, under stress 10 s), and a connection that
only waits for its client may be lent to others. Refuses to go on without a recipient that was told 250.
"""

from gateway.errors import NextHopError
from gateway.model.envelope import Envelope
from gateway.pipeline.services import NextHop, Relay


async def begin(next_hop: NextHop, envelope: Envelope, lost: Relay | None = None) -> Relay:
    """Begin, or begin anew when ``lost``: whoever was accepted must be accepted again. Raises NextHopError."""
    if lost is not None:
        lost.abort()
    relay = await next_hop.begin(envelope.client, envelope.sender.address, envelope.parameters, envelope.transaction)
    try:
        for recipient in envelope.recipients:
            reply = await relay.rcpt(recipient.address, recipient.parameters)
            if not reply.positive:
                raise NextHopError(f"the next hop had accepted a recipient, and now answers RCPT with {reply}")
    except BaseException:
        relay.abort()
        raise
    return relay

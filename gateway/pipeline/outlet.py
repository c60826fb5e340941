"""Where a transaction leads: what answers a recipient, and what carries the verdict out.

In front of a mail server that is a transaction with the next hop, kept here; beside one it is the server that asks
(:mod:`gateway.pipeline.beside`). Refuses to know what a rule says.
"""

from typing import Protocol

from gateway.model.envelope import Envelope
from gateway.model.reply import Reply
from gateway.model.verdict import Verdict
from gateway.pipeline.effect import Effect
from gateway.pipeline.relaying import begin
from gateway.pipeline.services import Relay, Services
from gateway.pipeline.trace import HeaderFacts
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage
from gateway.wire.command import PathArgument


class Outlet(Protocol):
    """One transaction's way out. Not reusable."""

    @property
    def server_decides(self) -> bool:
        """Whether somebody else has already looked at who may send through the city."""

    async def recipient(self, envelope: Envelope, path: PathArgument) -> Reply:
        """The answer to one more recipient of ``envelope``. Raises NextHopError."""

    async def carry_out(
        self, verdict: Verdict, envelope: Envelope, message: SpooledMessage, facts: HeaderFacts, record: Record
    ) -> Reply:
        """Do what the verdict says; what the client is to read. Raises CivicgateError."""

    def rest(self) -> None:
        """The client has its answer; nothing to do until it goes on."""

    def abort(self) -> None:
        """It is over. Harmless when it was over before."""


class RelayOutlet:
    """The next hop: opened for the first recipient, and its answers are the client's."""

    __slots__ = ("_relay", "_services")

    server_decides = False

    def __init__(self, services: Services) -> None:
        self._services = services
        self._relay: Relay | None = None

    async def recipient(self, envelope: Envelope, path: PathArgument) -> Reply:
        """The next hop's answer, verbatim; begun anew with all recipients when it went away meanwhile."""
        relay = self._relay
        if relay is None or relay.lost:
            self._relay = None
            relay = self._relay = await begin(self._services.next_hop, envelope, relay)
        return await relay.rcpt(path.address, path.parameters)

    async def carry_out(
        self, verdict: Verdict, envelope: Envelope, message: SpooledMessage, facts: HeaderFacts, record: Record
    ) -> Reply:
        """See :class:`~gateway.pipeline.effect.Effect`."""
        return await Effect(self._services, envelope, message, facts, record, self._relay).carry_out(verdict)

    def rest(self) -> None:
        """The connection may serve others meanwhile."""
        if self._relay is not None:
            self._relay.rest()

    def abort(self) -> None:
        """Give the transaction up."""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.abort()

"""The pipeline of one worker process: who is inside, what is offered, and a transaction for everyone who says MAIL."""

from gateway.model.envelope import Client, ListenerDirection
from gateway.pipeline.beside import BesideOutlet, Server
from gateway.pipeline.membership import Membership
from gateway.pipeline.outlet import RelayOutlet
from gateway.pipeline.services import Services
from gateway.pipeline.transaction import Transaction
from gateway.settings import SmtpSettings
from gateway.spool import Spool

_ALWAYS = ("PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING")


class Pipeline:
    """Holds the current snapshot of services; :meth:`install` swaps it between two transactions."""

    def __init__(self, services: Services) -> None:
        self.install(services)

    def install(self, services: Services) -> None:
        """Use these services from the next transaction on."""
        self.services = services
        self.settings = services.settings
        self._inside = Membership(services.settings.network.internal_networks)
        self._trusted = Membership(services.settings.network.trusted_hosts)
        self._offered_for: object = self
        self._keywords: tuple[str, ...] = ()

    @property
    def smtp(self) -> SmtpSettings:
        """The front's own slice."""
        return self.settings.smtp

    @property
    def hostname(self) -> str:
        """What we call ourselves."""
        return self.services.hostname

    @property
    def spool(self) -> Spool:
        """Where messages lie."""
        return self.services.spool

    def trusts(self, address: str) -> bool:
        """May this peer say for whom it speaks (XCLIENT, XFORWARD, PROXY)? A peer on a unix socket may."""
        return not address or self._trusted(address)

    def inside(self, client: Client, direction: ListenerDirection, *, local: bool = False) -> bool:
        """Is mail from this client the city's own? The listener says, or the network and a trusted login."""
        if direction is ListenerDirection.AUTO:
            return local or bool(client.login) or self._inside(client.address)
        return direction is ListenerDirection.OUTBOUND

    @property
    def keywords(self) -> tuple[str, ...]:
        """EHLO keywords: ours, and those of the next hop that need its help."""
        self._refresh()
        return self._keywords

    @property
    def mail_parameters(self) -> frozenset[str]:
        """MAIL parameters that go with the keywords."""
        self._refresh()
        return self._mail

    @property
    def rcpt_parameters(self) -> frozenset[str]:
        """RCPT parameters that go with the keywords."""
        self._refresh()
        return self._rcpt

    def _refresh(self) -> None:
        """Follow the next hop's last EHLO. Before the first one only what needs no help is offered."""
        seen = self.services.next_hop.capabilities
        if seen is self._offered_for:
            return
        self._offered_for = seen
        size = self.settings.smtp.max_message_size
        words, mail, rcpt = [*_ALWAYS], {"SIZE"}, set[str]()
        if seen is not None:
            size = min(size, seen.size) if seen.size else size
            if seen.eightbitmime:
                words.append("8BITMIME")
                mail.add("BODY")
            if seen.smtputf8:
                words.append("SMTPUTF8")
                mail.add("SMTPUTF8")
            if seen.dsn:
                words.append("DSN")
                mail |= {"RET", "ENVID"}
                rcpt |= {"NOTIFY", "ORCPT"}
        self._keywords = (*words, f"SIZE {size}")
        self._mail, self._rcpt = frozenset(mail), frozenset(rcpt)

    def begin(self, client: Client) -> Transaction:
        """Open a transaction for a client; MAIL is its first event."""
        return Transaction(self.services, client, RelayOutlet(self.services))

    def begin_beside(self, client: Client, server: Server) -> Transaction:
        """The same for a transaction that a mail server holds and lets us look at."""
        return Transaction(self.services, client, BesideOutlet(self.services, server))

"""The SMTP front: what the commands of RFC 5321 and its extensions do. The pipeline answers MAIL, RCPT and the content.

Offers only what the next hop can carry on: 8BITMIME, SMTPUTF8 and DSN stand in the EHLO reply when the next hop's last
EHLO had them. Refuses commands out of order, XCLIENT and XFORWARD from strangers, and content behind DATA that came
before our 354 (RFC 2920 section 3.1), for that is how one message is made to look like two.
"""

import asyncio
import ssl
from dataclasses import replace
from ipaddress import ip_address

from aiosmtpd.smtp import syntax

from gateway.errors import ClientError
from gateway.front.connection import GOING_DOWN
from gateway.front.limits import Admission
from gateway.front.proxy import Arrival, read_proxy
from gateway.front.receiver import Receiver
from gateway.front.session import BYE, HELPLESS, LOCAL_PROBLEM, OK, SmtpSession
from gateway.metrics import CONNECTIONS_REFUSED, SMTP_ERRORS
from gateway.model.envelope import Client
from gateway.model.reply import Reply
from gateway.pipeline import Pipeline, Transaction
from gateway.settings import ListenerSettings
from gateway.wire.command import PathArgument, decode_xtext, parse_attributes, parse_path, require_ascii
from gateway.wire.data import BdatDecoder, DataDecoder

XFORWARD = frozenset({"NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"})
XCLIENT = frozenset({"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"})

_START = Reply.of(354, "", "End data with <CR><LF>.<CR><LF>")
_HELLO_FIRST = Reply.of(503, "5.5.1", "Say EHLO or HELO first")
_MAIL_FIRST = Reply.of(503, "5.5.1", "Say MAIL first")
_RCPT_FIRST = Reply.of(503, "5.5.1", "Say RCPT first")
_NESTED = Reply.of(503, "5.5.1", "A transaction is already open")
_NO_ARGUMENT = Reply.of(501, "5.5.4", "That command takes no argument")
_NAME_NEEDED = Reply.of(501, "5.5.4", "Say your host name")
_MAIL_SYNTAX = Reply.of(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
_RCPT_SYNTAX = Reply.of(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
_BDAT_SYNTAX = Reply.of(501, "5.5.4", "Syntax: BDAT octets [LAST]")
_TLS_FIRST = Reply.of(530, "5.7.0", "Say STARTTLS first")
_TLS_ALREADY = Reply.of(503, "5.5.1", "TLS is already in use")
_TLS_READY = Reply.of(220, "2.0.0", "Ready to start TLS")
_NO_TLS = Reply.of(502, "5.5.1", "TLS is not available here")
_NOT_TRUSTED = Reply.of(550, "5.7.1", "You may not say for whom you speak")
_UNSYNCHRONISED = Reply.of(554, "5.5.0", "Content came before it was asked for")
_MIXED = Reply.of(503, "5.5.1", "DATA and BDAT do not mix")
_CANNOT_VERIFY = Reply.of(252, "2.5.2", "Send mail and see; addresses are not verified here")
_NO_EXPN = Reply.of(502, "5.5.1", "EXPN is not offered")
_NO_PARAMETERS = Reply.of(555, "5.5.4", "Parameters need EHLO")
_SENDER_OK = Reply.of(250, "2.1.0", "Sender OK")

_BODIES = frozenset({"7BIT", "8BITMIME"})


class GatewaySession(SmtpSession):
    """One client's session."""

    def __init__(
        self,
        listener: ListenerSettings,
        pipeline: Pipeline,
        admission: Admission,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
        arrival: Arrival | None = None,
    ) -> None:
        """``arrival``: who it is, when TLS came first (:mod:`gateway.front.porch`)."""
        super().__init__(listener, pipeline.settings.smtp, admission, loop, tls)
        self._pipeline = pipeline
        self._arrived = arrival
        self._arrival = arrival or Arrival(Client(""), known=False)
        self._client = self._arrival.client
        self._forwarded: dict[str, str] = {}
        self._forwarding_used = False
        self._known_speaker: Client | None = None
        self._asked_pipeline: object = None
        self._transaction: Transaction | None = None
        self._bdat: Receiver | None = None
        self._trusted = False

    # --- before the greeting -------------------------------------------------------------------------------------

    async def _open(self) -> bool:
        self._arrive(self._arrived or Arrival(Client(self.peer, self.peer_port)))
        if self._listener.proxy_protocol and self._arrived is None and not await self._read_proxy():
            CONNECTIONS_REFUSED.labels("proxy" if self._admitted else "limit").inc()
            self.close()
            return False
        if self._listener.tls == "implicit":
            self.session.ssl = self.transport.get_extra_info("ssl_object")
        self.reply(self._greeting())
        return True

    def _first_counted_as(self) -> str:
        if self._arrived is not None:
            return self._arrived.counted_as
        return super()._first_counted_as()

    def _greeting(self) -> Reply:
        """The first reply, said again when XCLIENT begins another client's session."""
        return Reply.of(220, "", f"{self._pipeline.hostname} ESMTP Civicgate")

    async def _read_proxy(self) -> bool:
        """PROXY protocol v1 or v2 from a trusted load balancer; anything else ends the connection unheard."""
        if not self._trusted:
            return False
        arrival = await read_proxy(_BufferReader(self), self._client)
        if arrival is None:
            return False
        self._arrive(arrival)
        return self._count_client(arrival.counted_as)

    def _arrive(self, arrival: Arrival) -> None:
        self._arrival, self._client = arrival, arrival.client
        self._trusted = arrival.known and self._pipeline.trusts(arrival.client.address)

    def _count_client(self, address: str) -> bool:
        refusal = None if self._closing else self._admission.rename(self, self._counted_as, address)
        self._counted_as = address
        if refusal is None:
            return not self._closing
        self._admitted = False
        self.reply(refusal)
        self.flush()
        return False

    async def _end(self) -> None:
        await super()._end()
        self._forget_transaction()

    def _in_transaction(self) -> bool:
        return self._transaction is not None

    def _forget_transaction(self) -> None:
        self._until = 0.0
        transaction, self._transaction = self._transaction, None
        bdat, self._bdat = self._bdat, None
        if bdat is not None:
            bdat.abort()
        if transaction is not None:
            transaction.abort()

    # --- greeting commands ---------------------------------------------------------------------------------------

    @syntax("HELO hostname")
    async def smtp_HELO(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.1."""
        if not arg:
            self.reply(_NAME_NEEDED)
            return
        self._hello(arg, extended=False)
        self.reply(Reply.of(250, "", self._pipeline.hostname))

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.1; the keywords are those that this gateway and the next hop share."""
        if not arg:
            self.reply(_NAME_NEEDED)
            return
        self._hello(arg, extended=True)
        words = self._pipeline.keywords
        if self._listener.tls == "starttls" and self.session.ssl is None:
            words = (*words, "STARTTLS")
        if self._trusted:
            words = (
                *words,
                "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
                "XCLIENT NAME ADDR PORT PROTO HELO LOGIN",
            )
        self.reply(Reply(250, "", (self._pipeline.hostname, *words)))

    def _hello(self, name: str, *, extended: bool) -> None:
        self._forget_transaction()
        self.session.host_name = "".join(c if c.isprintable() else "?" for c in name[:255])
        self.session.extended_smtp = extended
        self._known_speaker = None

    @syntax("STARTTLS")
    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        """RFC 3207: everything that was said in clear is forgotten."""
        if arg:
            self.reply(_NO_ARGUMENT)
        elif self._listener.tls != "starttls" or self._tls_context is None:
            self.reply(_NO_TLS)
        elif self.session.ssl is not None:
            self.reply(_TLS_ALREADY)
        else:
            self._forget_transaction()
            self._forwarded.clear()
            self._known_speaker = None
            self._client = self._arrival.client
            self.reply(_TLS_READY)
            await self._start_tls()

    @syntax("NOOP [ignored]")
    async def smtp_NOOP(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.9."""
        self.reply(OK)

    @syntax("HELP [ignored]")
    async def smtp_HELP(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.8."""
        self.reply(HELPLESS)

    @syntax("VRFY address")
    async def smtp_VRFY(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 7.3 lets a server not tell."""
        self.reply(_CANNOT_VERIFY)

    async def smtp_EXPN(self, arg: str) -> None:  # noqa: N802
        """Lists are not expanded for strangers."""
        self.reply(_NO_EXPN)

    @syntax("RSET")
    async def smtp_RSET(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.5."""
        if arg:
            self.reply(_NO_ARGUMENT)
            return
        self._forget_transaction()
        self.reply(OK)

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.10."""
        self._forget_transaction()
        self.close(BYE)

    # --- for whom a trusted peer speaks --------------------------------------------------------------------------

    def _may_name_client(self) -> bool:
        """Whether the peer is trusted, and between two messages; else it has been told so."""
        if not self._trusted:
            self.reply(_NOT_TRUSTED)
        elif self._transaction is not None:
            self.reply(_NESTED)
        else:
            return True
        return False

    async def smtp_XFORWARD(self, arg: str) -> None:  # noqa: N802
        """Postfix's XFORWARD: facts about the client that the peer has, for the log and the direction."""
        if not self._may_name_client():
            return
        said = parse_attributes(arg, XFORWARD)
        if self._forwarding_used:  # a new client: nothing of the one before (whose mail may have been LOCAL) is his
            self._forwarded.clear()
            self._forwarding_used = False
        self._forwarded.update(said)
        self._known_speaker = None
        self.reply(OK)

    async def smtp_XCLIENT(self, arg: str) -> None:  # noqa: N802
        """Postfix's XCLIENT: from here on the session is that client's; it starts anew with the greeting."""
        if not self._may_name_client():
            return
        said = parse_attributes(arg, XCLIENT)
        client = self._client
        address = _address(said.get("ADDR", client.address))
        self._client = replace(
            client,
            address=address,
            port=_port(said.get("PORT", ""), client.port),
            name=said.get("NAME", client.name),
            login=said.get("LOGIN", client.login),
        )
        self._forwarded.clear()
        self._known_speaker = None
        self.session.host_name = said.get("HELO") or None
        self.session.extended_smtp = said.get("PROTO", "ESMTP").upper() != "SMTP"
        self.reply(self._greeting())

    def _speaker(self) -> Client:
        """Who this transaction is from, as far as a trusted peer tells. Kept while nothing is said anew."""
        if self._known_speaker is None or self._asked_pipeline is not self._pipeline.services:
            self._known_speaker = self._new_speaker()
            self._asked_pipeline = self._pipeline.services
        return self._known_speaker

    def _new_speaker(self) -> Client:
        said = self._forwarded
        tls = ""
        if self.session.ssl is not None:
            cipher = self.session.ssl.cipher()
            tls = f"{self.session.ssl.version()} {cipher[0] if cipher else ''}".strip()
        client = replace(
            self._client,
            helo=said.get("HELO") or self.session.host_name or "",
            protocol=said.get("PROTO") or ("ESMTP" if self.session.extended_smtp else "SMTP"),
            tls=tls,
        )
        if "ADDR" in said:
            client = replace(client, address=_address(said["ADDR"]), port=0, name="")
        if "NAME" in said:
            client = replace(client, name=said["NAME"])
        if "PORT" in said:
            client = replace(client, port=_port(said["PORT"], client.port))
        inside = self._pipeline.inside(
            client if self._arrival.known else Client(""),
            self._listener.direction,
            local=said.get("SOURCE", "").upper() == "LOCAL",
        )
        return replace(client, inside=inside) if inside != client.inside else client

    # --- the transaction -----------------------------------------------------------------------------------------

    @syntax("MAIL FROM:<address> [parameters]")
    async def smtp_MAIL(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.2."""
        if self.session.host_name is None:
            self.reply(_HELLO_FIRST)
            return
        if self._listener.require_tls and self.session.ssl is None:
            self.reply(_TLS_FIRST)
            return
        if self._transaction is not None:
            self.reply(_NESTED)
            return
        path = parse_path(arg, "FROM:")
        if path is None:
            self.reply(_MAIL_SYNTAX)
            return
        self._check_mail_parameters(path)
        self._forwarding_used = True
        transaction = self._pipeline.begin(self._speaker())
        refusal = await transaction.mail(path)
        if refusal is not None:
            self.reply(refusal)
            return
        self._transaction = transaction
        self._until = self.loop.time() + self._limits.transaction_timeout
        self.reply(_SENDER_OK)

    def _check_mail_parameters(self, path: PathArgument) -> None:
        """Only what we offered (RFC 5321 section 4.1.1.11); raises :class:`ClientError`."""
        offered = self._pipeline.mail_parameters
        for parameter in path.parameters:
            name, _, value = parameter.partition("=")
            name = name.upper()
            if not self.session.extended_smtp:
                raise ClientError("parameters after HELO", _NO_PARAMETERS)
            if name not in offered:
                raise ClientError("parameter not offered", Reply.of(555, "5.5.4", f"Parameter {name} is not offered"))
            if name == "SIZE" and not (value.isascii() and value.isdigit() and len(value) <= 20):
                raise ClientError("bad SIZE", Reply.of(501, "5.5.4", "SIZE wants a number of octets"))
            if name == "BODY" and value.upper() not in _BODIES:
                raise ClientError("bad BODY", Reply.of(501, "5.5.4", "BODY is 7BIT or 8BITMIME"))
            if name == "SMTPUTF8" and parameter.upper() != name:
                raise ClientError("bad SMTPUTF8", Reply.of(501, "5.5.4", "SMTPUTF8 takes no value"))
            if name == "RET" and value.upper() not in ("FULL", "HDRS"):
                raise ClientError("bad RET", Reply.of(501, "5.5.4", "RET is FULL or HDRS"))
        if path.value("SMTPUTF8") is None:
            require_ascii(path.address)

    @syntax("RCPT TO:<address> [parameters]")
    async def smtp_RCPT(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.3; the next hop's answer, unless the policy has one already."""
        transaction = self._transaction
        if transaction is None:
            self.reply(_MAIL_FIRST)
            return
        if self._bdat is not None:
            self.reply(_NESTED)
            return
        path = parse_path(arg, "TO:")
        if path is None or not path.address:
            self.reply(_RCPT_SYNTAX)
            return
        offered = self._pipeline.rcpt_parameters
        for parameter in path.parameters:
            name = parameter.partition("=")[0].upper()
            if name not in offered:
                raise ClientError("parameter not offered", Reply.of(555, "5.5.4", f"Parameter {name} is not offered"))
        if not transaction.smtputf8:
            require_ascii(path.address)
        self._busy = True
        try:
            reply = await transaction.recipient(path)
        finally:
            self._busy = False
        self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        """The pipeline's answer. 421 from the next hop ends our session too: that is what the code says."""
        if reply.code == 421:
            self.close(reply)
        else:
            self.reply(reply)

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.4."""
        transaction = self._transaction
        if arg:
            self.reply(_NO_ARGUMENT)
        elif transaction is None:
            self.reply(_MAIL_FIRST)
        elif not transaction.has_recipients:
            self.reply(_RCPT_FIRST)
        elif self._bdat is not None:
            self.reply(_MIXED)
        elif self._buffer:
            SMTP_ERRORS.labels("pipelining").inc()
            self.close(_UNSYNCHRONISED)
        else:
            decoder = DataDecoder(normalise=self._limits.bare_newlines == "normalise")
            receiver = await self._new_receiver(transaction, decoder)
            if self._buffer:  # it came while the policy was asked where to stop reading
                SMTP_ERRORS.labels("pipelining").inc()
                receiver.abort()
                self.close(_UNSYNCHRONISED)
                return
            self.reply(_START)
            self.flush()
            if await self._receive_until_end(receiver):
                await self._finish(transaction, receiver)
            else:
                receiver.abort()

    @syntax("BDAT octets [LAST]")
    async def smtp_BDAT(self, arg: str) -> None:  # noqa: N802
        """RFC 3030. The octets are read even when the command is refused, for they are on their way."""
        words = arg.split()
        last = len(words) == 2 and words[1].upper() == "LAST"
        if (
            not words
            or not (words[0].isascii() and words[0].isdigit())
            or len(words[0]) > 12
            or (len(words) > 1 and not last)
        ):
            self.close(_BDAT_SYNTAX)  # how many octets follow cannot be known: nothing behind this can be read safely
            return
        octets = int(words[0])
        transaction = self._transaction
        receiver = self._bdat
        if receiver is None:
            decoder = BdatDecoder(normalise=self._limits.bare_newlines == "normalise")
            if transaction is not None and transaction.has_recipients:
                receiver = self._bdat = await self._new_receiver(transaction, decoder)
            else:
                receiver = self._refusing_receiver(decoder, _MAIL_FIRST if transaction is None else _RCPT_FIRST)
        if not await self._receive_counted(receiver, octets):
            return
        if transaction is None or self._bdat is None:
            self.reply(receiver.refusal or _MAIL_FIRST)
        elif last:
            self._bdat = None
            await self._finish(transaction, receiver)
        else:
            self.reply(receiver.refusal or Reply.of(250, "2.0.0", f"{octets} octets received"))

    async def _new_receiver(self, transaction: Transaction, decoder: DataDecoder | BdatDecoder) -> Receiver:
        limit, too_large = await transaction.cutoff()
        return Receiver(transaction.new_spool(), decoder, limit, too_large, self.loop.time())

    def _refusing_receiver(self, decoder: BdatDecoder, refusal: Reply) -> Receiver:
        receiver = Receiver(self._pipeline.spool.new("refused"), decoder, 0, refusal, self.loop.time())
        receiver.refusal = refusal
        return receiver

    async def _finish(self, transaction: Transaction, receiver: Receiver) -> None:
        """All octets are here: the pipeline's answer is the client's."""
        self._busy = True
        try:
            message = receiver.finish()
            if message is None:
                refusal = receiver.refusal or LOCAL_PROBLEM
                if receiver.fault is not None:
                    SMTP_ERRORS.labels(receiver.fault.value).inc()
                transaction.refused(refusal, receiver.received)
                self.reply(refusal)
            else:
                reply = await transaction.finish(message)
                if reply.positive:
                    self._errors = 0  # who brings good mail, be it for many, may go on
                self._answer(reply)
        finally:
            self._busy = False
            if self._transaction is transaction:
                self._forget_transaction()
            self._set_deadline(self._limits.idle_timeout)
        if self._draining:
            self.close(GOING_DOWN)


class _BufferReader:
    """The few calls that aiosmtpd's PROXY parser makes, on the session's own buffer."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def read(self, n: int = -1) -> bytes:
        return await self.readexactly(n)

    async def readexactly(self, n: int) -> bytes:
        return await self._session.take(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        return await self._session.take_until(separator)


def _port(text: str, otherwise: int) -> int:
    """A port as XCLIENT and XFORWARD write it; ``otherwise`` when it is none (str.isdigit takes «²» for a digit)."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1
    return number if 0 <= number <= 65535 else otherwise


def _address(text: str) -> str:
    """An address as XCLIENT and XFORWARD write it (``IPV6:…``) in the plain form; ``""`` when it is none."""
    plain = decode_xtext(text)
    if plain[:5].upper() == "IPV6:":
        plain = plain[5:]
    try:
        return str(ip_address(plain.partition("%")[0]))  # a zone says nothing to others, and may be any text
    except ValueError:
        return ""

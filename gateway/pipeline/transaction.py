"""One transaction as a front drives it: MAIL, RCPT …, the content, and out comes a reply.

The policy is asked as early as it can answer: at MAIL, at each RCPT, before the content (where to stop reading), and at
the end with all findings. Refuses to relay for strangers, loops, and content that no rule would let through.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

from gateway.errors import CivicgateError, ControlError, NextHopError, StoreError
from gateway.metrics import CONTROL_FAILURES, STAGE_SECONDS, Distribution
from gateway.model.envelope import Client, Envelope, Recipient, Sender
from gateway.model.finding import Check, ControlFailure, Finding, Findings, Questions
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, RecipientGroup, Verdict
from gateway.pipeline.mishap import mishap
from gateway.pipeline.outlet import Outlet
from gateway.pipeline.recipients import RELAY_DENIED, mailbox, own_names, resolve
from gateway.pipeline.released import known_again, may_pass
from gateway.pipeline.services import Services
from gateway.pipeline.trace import HeaderFacts, header_facts
from gateway.policy import asked, decide, decide_early
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage, SpoolWriter
from gateway.wire.command import PathArgument

LOOP = Reply.of(554, "5.4.6", "This message has passed too many servers; it is going round in a loop")
TOO_MANY_RECIPIENTS = Reply.of(452, "4.5.3", "Too many recipients, send the rest in another transaction")

NOBODY = Sender("")
_NOTHING = frozenset[Check]()
_LATE = "no answer within verdict_timeout"
_ASKED_EARLY = 50
"""Recipients looked at to stop reading early; the end of data decides for all of them."""
_GROWN = 2
"""How many times as large a copy from our store may be as what came: encrypted, and base64 twice over."""
_inspection = Distribution(STAGE_SECONDS.labels("inspect"))
_receiving = Distribution(STAGE_SECONDS.labels("receive"))
_SCANNING = {stage: Distribution(STAGE_SECONDS.labels(stage)) for stage in ("virus", "rescan")}
_deciding = Distribution(STAGE_SECONDS.labels("decide"))


@cache
def too_large(limit: int) -> Reply:
    """The refusal of what is beyond the gateway's own limit."""
    return Reply.of(552, "5.3.4", f"The message is larger than this gateway takes ({limit} octets)")


class Transaction:
    """Not reusable: one MAIL, any number of RCPT, one content."""

    __slots__ = (
        "_begun",
        "_content_begun",
        "_envelope",
        "_mailboxes",
        "_outlet",
        "_recipients",
        "_services",
        "_settings",
        "_times",
        "_used",
        "client",
        "queue_id",
        "smtputf8",
    )

    def __init__(self, services: Services, client: Client, outlet: Outlet) -> None:
        self._services = services
        self._outlet = outlet
        self._settings = services.settings
        self.client = client
        self._envelope = Envelope(services.new_id(), client, NOBODY)
        self._recipients: list[Recipient] = []
        self._mailboxes: set[str] = set()
        self.smtputf8 = False
        self.queue_id = ""
        """The mail server's own name for the message, when it says one: for the log."""
        self._times: dict[str, float] = {}
        self._used: tuple[str, ...] = ()
        self._begun = self._content_begun = services.clock()

    @property
    def id(self) -> str:
        """The transaction's id."""
        return self._envelope.transaction

    @property
    def has_recipients(self) -> bool:
        """True once a RCPT was accepted."""
        return bool(self._recipients)

    @property
    def envelope(self) -> Envelope:
        """The envelope as far as it is known."""
        return replace(self._envelope, recipients=tuple(self._recipients))

    # --- envelope ------------------------------------------------------------------------------------------------

    async def mail(self, path: PathArgument) -> Reply | None:
        """Take the reverse-path. None: go on; a reply: refused, and the transaction is over."""
        services = self._services
        declared = path.value("SIZE")
        self.smtputf8 = path.value("SMTPUTF8") is not None
        self._envelope = Envelope(
            self._envelope.transaction,
            self.client,
            services.directory.sender(path.address),
            (),
            path.parameters,
            int(declared) if declared else None,
        )
        limit = self._settings.smtp.max_message_size
        if declared and int(declared) > limit:
            refusal: Reply | None = too_large(limit)
        else:
            refusal = await self._early(None) if services.rules.early else None
        if refusal is not None:
            self._record(refusal, size=self._envelope.declared_size or 0)
        return refusal

    async def recipient(self, path: PathArgument) -> Reply:
        """Take a forward-path: the policy's refusal, or the next hop's answer, verbatim."""
        services = self._services
        if len(self._recipients) >= self._settings.smtp.max_recipients:
            return TOO_MANY_RECIPIENTS
        recipient = self._resolve(path, inside=self.client.inside)
        if recipient is RELAY_DENIED and self._outlet.server_decides:
            recipient = self._resolve(path, inside=True)
        if isinstance(recipient, Reply):
            self._record(recipient, recipients=(path.address,))
            return recipient
        refusal = await self._early(recipient) if services.rules.early else None
        if refusal is not None:
            self._record(refusal, recipients=(path.address,), size=self._envelope.declared_size or 0)
            return refusal
        outlet = self._outlet
        try:
            reply = await outlet.recipient(self.envelope if self._recipients else self._envelope, path)
        except NextHopError as error:
            self._record(error.reply, recipients=(path.address,), problem=error.detail)
            return error.reply
        if reply.positive:
            self._add(recipient)
        else:
            self._record(reply, recipients=(path.address,))
        outlet.rest()
        return reply

    def _resolve(self, path: PathArgument, *, inside: bool) -> Recipient | Reply:
        services = self._services
        behind = services.next_hop.capabilities
        hosts = own_names(services.hostname, behind.name if behind is not None else "")
        network = self._settings.network
        return resolve(path, inside=inside, network=network, directory=services.directory, hosts=hosts)

    def _add(self, recipient: Recipient) -> None:
        """Who is named twice gets the message once, also from the store, and is held and told of once."""
        name = mailbox(recipient.address)
        if name not in self._mailboxes:
            self._mailboxes.add(name)
            self._recipients.append(recipient)

    async def _early(self, recipient: Recipient | None, size: int | None = None) -> Reply | None:
        """What the policy is certain of before the content is known: at MAIL, for one recipient, at so many octets."""
        services = self._services
        octets = (self._envelope.declared_size or 0) if size is None else size
        envelope = self._envelope if recipient is None else replace(self._envelope, recipients=(recipient,))
        if self._may_be_ours:
            octets //= _GROWN
            envelope = replace(envelope, declared_size=(envelope.declared_size or 0) // _GROWN)
        if octets <= services.rules.early_above:
            return None
        findings = Findings(octets, (), (), _NOTHING, complete=False)
        try:
            exceptions = await services.exceptions.snapshot()
        except StoreError as error:
            return error.reply
        return decide_early(envelope, findings, services.rules, self._now(), exceptions)

    @property
    def _may_be_ours(self) -> bool:
        """Whether it may be a copy from our store: the mark that tells is in the header, and comes later."""
        return self._outlet.server_decides and self._settings.milter.next_hop_asks

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._services.clock(), UTC)

    # --- content -------------------------------------------------------------------------------------------------

    async def cutoff(self) -> tuple[int, Reply]:
        """How many octets are worth keeping, and what to say to one more: where a rule is certain to refuse."""
        limit = self._settings.smtp.max_message_size
        times = _GROWN if self._may_be_ours else 1
        try:
            for threshold in self._services.rules.size_thresholds:
                if threshold * times >= limit:
                    break
                for recipient in self._recipients[:_ASKED_EARLY]:
                    refusal = await self._early(recipient, (threshold + 1) * times)
                    if refusal is not None:
                        return threshold * times, refusal
        except Exception:  # noqa: BLE001 - only an early look: the end of data decides, and says so as a reply
            mishap("cutoff", id=self.id)
        return limit, too_large(limit)

    def new_spool(self) -> SpoolWriter:
        """Where the content goes. Call it when the content begins."""
        self._content_begun = self._services.clock()
        return self._services.spool.new(self.id)

    def refused(self, reply: Reply, size: int) -> None:
        """The front refused the content itself (too large, broken lines, no space)."""
        self._record(reply, size=size)
        self.abort()

    async def finish(self, message: SpooledMessage) -> Reply:
        """All octets are here: inspect, decide, act. The reply is the client's; the message is closed."""
        clock = self._services.clock
        arrived = clock()
        self._stage("receive", _receiving, arrived - self._content_begun)
        record = Record(self.envelope, message.size, "", self._times)
        record.queue_id = self.queue_id
        try:
            reply = await self._act(message, record)
        except asyncio.CancelledError:
            # a front gave up: its server went away, or the time was over; it defers what it can still answer
            record.problem = "given up before the answer"
            await self._settle(record, CivicgateError.reply)
            raise
        except CivicgateError as error:
            record.problem, reply = error.detail, error.reply
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not lose mail: the client keeps it
            mishap("transaction", id=self.id)
            record.problem, reply = f"unexpected {type(error).__name__}", CivicgateError.reply
        finally:
            self.abort()
            message.close()
        await self._settle(record, reply)
        return reply

    async def _settle(self, record: Record, reply: Reply) -> None:
        """The message is over: what it used and did not need is given back, and the log has its line."""
        if self._used and not reply.positive:
            await self._give_back(record)
        record.total = self._services.clock() - self._begun
        self._tell(record, reply)

    async def _act(self, message: SpooledMessage, record: Record) -> Reply:
        facts = header_facts(message.buffer)
        record.message_id = facts.message_id
        return await self._judge(record.envelope, message, facts, record)

    async def _judge(self, envelope: Envelope, message: SpooledMessage, facts: HeaderFacts, record: Record) -> Reply:
        services = self._services
        ours = self._outlet.server_decides and await may_pass(services, envelope, message, facts, record)
        if facts.hops > self._settings.smtp.max_hops and not ours:
            return LOOP
        if services.rules.rules and not ours:
            findings = await self._findings(envelope, message)
            record.failures = findings.failures
            record.viruses = tuple(found.kind for found in findings.of(Check.VIRUS))
            verdict = await self._decide(envelope, findings)
            verdict = await known_again(services, verdict, envelope, message, facts, record)
        else:
            verdict = Verdict((RecipientGroup(envelope.recipients, Disposition.PASS),))
        record.verdict = verdict
        return await self._outlet.carry_out(verdict, envelope, message, facts, record)

    async def _decide(self, envelope: Envelope, findings: Findings) -> Verdict:
        """The verdict. An exception that it rests on is counted; one used up meanwhile defers (the retry sees that)."""
        services = self._services
        exceptions = await services.exceptions.snapshot()
        started = services.clock()
        verdict = decide(envelope, findings, services.rules, self._now(), exceptions)
        self._stage("decide", _deciding, services.clock() - started)
        if verdict.used_exceptions and verdict.refusal is None:
            await services.exceptions.use(verdict.used_exceptions)
            self._used = verdict.used_exceptions
        return verdict

    async def _give_back(self, record: Record) -> None:
        """The message did not leave: the retry shall find the exceptions as this one did."""
        try:
            await self._services.exceptions.give_back(self._used)
        except CivicgateError as error:
            record.notes.append(f"exceptions stay counted: {error.detail}")

    async def _findings(self, envelope: Envelope, message: SpooledMessage) -> Findings:
        """Run the checks that the rules ask for, side by side, under one deadline."""
        services = self._services
        questions = asked(envelope, services.rules, self._now(), await services.exceptions.snapshot())
        deadline = asyncio.get_running_loop().time() + self._settings.smtp.verdict_timeout
        if Check.VIRUS not in questions.checks:
            if not questions.checks:
                return Findings(message.size, (), (), _NOTHING)
            answers = await self._inspect(envelope, message, questions, deadline)
            return self._counted(Findings(message.size, *answers[:3]))
        # the scan first: clamd works while we inspect
        (found, failed), (items, failures, known) = await asyncio.gather(
            self._scan(message, deadline), self._examine(envelope, message, questions, deadline)
        )
        if found or failed:  # one virus and one failure of the control are enough
            items = (*(item for item in items if not found or item.check is not Check.VIRUS), *found)
            failures = (*(row for row in failures if not failed or row.check is not Check.VIRUS), *failed)
        if not any(failure.check is Check.VIRUS for failure in failures):
            known |= {Check.VIRUS}
        return self._counted(Findings(message.size, items, failures, known))

    async def _examine(
        self, envelope: Envelope, message: SpooledMessage, questions: Questions, deadline: float
    ) -> tuple[tuple[Finding, ...], tuple[ControlFailure, ...], frozenset[Check]]:
        """Inspect, and scan what a scan of the message alone may miss."""
        items, failures, known, apart = await self._inspect(envelope, message, questions, deadline)
        if apart is None:
            return items, failures, known
        try:
            found, failed = await self._scan(apart, deadline, "rescan")
        finally:
            apart.close()
        return (*items, *found), (*failures, *failed), known

    @staticmethod
    def _counted(findings: Findings) -> Findings:
        for failure in findings.failures:
            CONTROL_FAILURES.labels(failure.check.value, failure.reason).inc()
        return findings

    async def _inspect(
        self, envelope: Envelope, message: SpooledMessage, questions: Questions, deadline: float
    ) -> tuple[tuple[Finding, ...], tuple[ControlFailure, ...], frozenset[Check], SpooledMessage | None]:
        services = self._services
        started = services.clock()
        reason = "timeout"
        try:
            async with asyncio.timeout_at(deadline):
                if Check.VIRUS in questions.checks:
                    return await services.inspector.examine(message, envelope, questions)
                return *await services.inspector.inspect(message, envelope, questions), None
        except TimeoutError:
            detail = _LATE
        except Exception as error:  # noqa: BLE001 - a mistake of ours is a control that failed, never «nothing found»
            mishap("inspection", id=self.id)
            reason, detail = "crashed", type(error).__name__
        finally:
            self._stage("inspect", _inspection, services.clock() - started)
        return (), tuple(ControlFailure(check, reason, detail) for check in sorted(questions.checks)), _NOTHING, None

    async def _scan(
        self, message: SpooledMessage, deadline: float, stage: str = "virus"
    ) -> tuple[tuple[Finding, ...], tuple[ControlFailure, ...]]:
        services = self._services
        started = services.clock()
        try:
            async with asyncio.timeout_at(deadline):
                found = await services.scanner.scan(message)
        except ControlError as error:
            return (), (ControlFailure(Check.VIRUS, error.reason, error.detail),)
        except TimeoutError:
            return (), (ControlFailure(Check.VIRUS, "timeout", _LATE),)
        except Exception as error:  # noqa: BLE001 - as above
            mishap("virus scan", id=self.id)
            return (), (ControlFailure(Check.VIRUS, "crashed", type(error).__name__),)
        finally:
            self._stage(stage, _SCANNING[stage], services.clock() - started)
        return found, ()

    # --- the end -------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Let go of the next hop. Harmless when there is nothing to let go of."""
        self._outlet.abort()

    def _stage(self, name: str, histogram: Distribution, seconds: float) -> None:
        self._times[name] = seconds
        histogram.observe(seconds)

    def _record(self, reply: Reply, *, recipients: tuple[str, ...] = (), size: int = 0, problem: str = "") -> None:
        """The record of a refusal before the end of the content."""
        record = Record(self.envelope, size, "", self._times)
        if recipients:
            record.recipients = recipients
        record.problem = problem
        record.total = self._services.clock() - self._begun
        self._tell(record, reply)

    def _tell(self, record: Record, reply: Reply) -> None:
        """The reply stands, whatever becomes of the log: the next hop may have the message already."""
        try:
            self._services.record(record, reply)
        except Exception:  # noqa: BLE001
            mishap("record", id=self.id)

"""A small city with held mail, and its console on a free port: what browser tests, attacks and measurements stand on.

The store, the accounts, the rules and the directory are the real ones; mail comes in through the store's own door.
"""

import asyncio
import contextlib
import hashlib
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts import Accounts, Method, Stage, Visit, totp
from gateway.accounts.tokens import Scope
from gateway.app import load_policy
from gateway.console.app import build
from gateway.console.context import Health, Services
from gateway.directory import Directory
from gateway.hold import Acceptance, HeldGroup, HeldItem, Hold, State, open_hold
from gateway.hold.decide import Order
from gateway.hold.links import NewLink, Purpose, insert_link
from gateway.model.envelope import Client, Direction, ExceptionRecord, Recipient
from gateway.model.verdict import Disposition, HoldOrder, Mode, RuleMatch
from gateway.policy import RuleSet
from gateway.settings import Settings
from gateway.store.events import Actor
from gateway.store.sealing import Seal

ROOT = Path(__file__).parents[2]
CLERK, MANAGER, HERALD, CABLE = (f"{n}@city.example" for n in ("clerk", "manager", "communications", "it-director"))
GARDENER, PARK = "gardener@city.example", "parks-director@city.example"
ADDRESSES = Client("192.0.2.10", 4711, "mail.city.example", "mail", "clerk", "ESMTPS", "TLSv1.3", inside=True)
HTML = """<html><head><style>p{color:red}</style><script>document.title='owned'</script></head><body>
<h1>Fall Festival</h1><p onclick="alert(1)">Main Street is <b>closed</b> on Saturday.
<img src="https://evil.example/p.png">
<a href="https://www.city.example/festival">The plan</a>, or <a href="javascript:alert(1)">this</a>.</p>
<table><tr><th>Street</th><th>Closed</th></tr><tr><td>Main Street</td><td>Saturday, 8 am to 6 pm</td></tr></table>
</body></html>
"""


class Letter:
    """A message in memory, with the spool's interface."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def sha256(self) -> str:
        """Hex digest."""
        return hashlib.sha256(self._data).hexdigest()

    def chunks(self) -> Iterator[memoryview]:
        """All octets."""
        for start in range(0, self.size, 262_144):
            yield memoryview(self._data)[start : start + 262_144]


def letter(subject: str, text: str, html: str = "", name: str = "", sender: str = CLERK) -> bytes:
    """A message: text, with HTML beside it and an attachment behind it when asked for. ASCII or UTF-8 as it stands."""
    head = (
        f"From: Chris Clerk <{sender}>\r\nTo: everyone@city.example\r\nSubject: {subject}\r\n"
        f"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <one@city.example>\r\nMIME-Version: 1.0\r\n"
    )
    plain = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
    body = plain
    if html:
        body = (
            'Content-Type: multipart/alternative; boundary="inner"\r\n\r\n'
            f"--inner\r\n{plain}--inner\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--inner--\r\n"
        )
    if name:
        body = (
            'Content-Type: multipart/mixed; boundary="outer"\r\n\r\n'
            f"--outer\r\n{body}--outer\r\nContent-Type: application/pdf\r\n"
            f'Content-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            "JVBERi0xLjQKJSBhIHBsYW4K\r\n--outer--\r\n"
        )
    return (head + body).encode()


@dataclass
class Town:
    """All that runs."""

    settings: Settings
    hold: Hold
    accounts: Accounts
    directory: Directory
    rules: RuleSet
    url: str = ""
    now: datetime | None = None
    """A clock that stands still; None: the machine's."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def clock(self) -> datetime:
        """The time."""
        return self.now or datetime.now(UTC)

    def services(self) -> Services:
        """For the console."""

        async def up() -> Health:
            return Health(up=True, text="answers")

        async def down() -> Health:
            return Health(up=False, text="127.0.0.1:10026: connection refused")

        return Services(
            settings=self.settings,
            hold=self.hold,
            accounts=self.accounts,
            directory=self.directory,
            rules=self.rules,
            clock=self.clock,
            neighbours={"clamd": up, "next hop": down, "store": up},
        )

    async def cookie(self, address: str) -> str:
        """A logged-in session's secret."""
        return await self.accounts.sessions.start(
            address, Stage.FULL, Visit(Method.PASSWORD, "192.0.2.99", "a browser")
        )

    def order(self, rule: str) -> HoldOrder:
        """The rule's own."""
        found = self.rules.get(rule)
        assert found is not None
        assert found.hold is not None
        return found.hold

    async def keep(
        self,
        subject: str,
        data: bytes | None = None,
        *,
        rule: str = "all-city-approval",
        sender: str = CLERK,
        to: tuple[str, ...] = ("everyone@city.example",),
        evidence: str = "",
        age: timedelta = timedelta(hours=2),
        **changes: Any,
    ) -> str:
        """Hold a message; returns the item's id. ``changes`` of its hold order."""
        found = self.rules.get(rule)
        assert found is not None
        ident = f"T{next(self.numbers):05d}"
        order = replace(self.order(rule), **changes)
        match = RuleMatch(
            rule, found.title, Mode.ENFORCE, Disposition.HOLD, found.source, evidence or f"recipient <{to[0]}>"
        )
        aside = RuleMatch(
            "caution-banner",
            "A word of caution on mail from outside",
            Mode.MONITOR,
            Disposition.PASS,
            ("mil/caution",),
            "",
        )
        recipients = tuple(
            Recipient(address, Direction.INTERNAL, lists=self.directory.lists_of(address)) for address in to
        )
        await self.hold.accept(
            Acceptance(
                transaction=ident,
                client=ADDRESSES,
                reverse_path=sender,
                message=Letter(data or letter(subject, "Dear all,\n\nplease see below.\n", sender=sender)),
                received=self.clock() - age,
                message_id=f"<{ident}@city.example>",
                subject=subject,
                authors=(sender,),
                held=(HeldGroup(recipients, (order,), matches=(match, aside)),),
            )
        )
        return f"{ident}-h1"

    async def link(self, ident: str, person: str, purpose: Purpose = Purpose.DECIDE) -> str:
        """A one-time link's token, as a letter would bring it."""
        new = NewLink(await self.item(ident), person, purpose)

        async def work(connection: AsyncConnection) -> None:
            await insert_link(connection, new, self.clock())

        await self.hold.core.database.write(work)
        return new.token

    async def item(self, ident: str) -> HeldItem:
        """As it stands."""
        return (await self.hold.desk.read(ident)).item

    async def populate(self) -> dict[str, str]:
        """A morning's mail; names to ids."""
        text = (
            "Dear all,\n\nMain Street is closed on Saturday from 8 am to 6 pm for the Fall Festival.\n\nChris Clerk\n"
        )
        made = {
            "festival": await self.keep(
                "Road closures during the Fall Festival",
                letter("Road closures during the Fall Festival", text, HTML, "street plan.pdf"),
                to=("everyone@city.example", "council@city.example", "mayor@city.example"),
            ),
            "urgent": await self.keep(
                "Water shut-off tonight, 10 pm to 4 am", age=timedelta(hours=44), expires_after=timedelta(hours=48)
            ),
            "program": await self.keep(
                "Invoice 2026-311",
                letter(
                    "Invoice 2026-311",
                    "Please run the attached file.\n",
                    "",
                    "invoice.pdf.exe",
                    "billing@vendor.example",
                ),
                rule="executable-attachments",
                sender="billing@vendor.example",
                to=("clerk@city.example",),
                evidence="attachment «invoice.pdf.exe» is a Windows program",
            ),
            "mine": await self.keep(
                "Volunteers wanted for the tree planting", sender=GARDENER, age=timedelta(minutes=20)
            ),
            "half": await self.keep("New parking rules from January", age=timedelta(hours=20)),
            "unsure": await self.keep(
                "Yoga class in the council chamber",
                sender=GARDENER,
                attestation="I confirm that this message is official business of the city.",
            ),
            "gone": await self.keep("Bake sale in the lobby", age=timedelta(hours=30)),
        }
        await self.hold.desk.approve(
            Order(made["half"], MANAGER, comment="Fine with me, thank you.", os_user="console")
        )
        await self.hold.desk.reject(
            Order(made["gone"], HERALD, comment="Please use the notice board.", os_user="console")
        )
        now = self.clock()
        await self.hold.exceptions.add(
            ExceptionRecord(
                "x1f0c2a9b", "large-file", "gis@city.example", "@surveyor.example", "Aerial photos for the flood map",
                CABLE, now - timedelta(days=2), now + timedelta(days=28), 12, 120_000_000,
            )
        )  # fmt: skip
        return made


async def accounts_of(city: Town) -> None:
    """Local accounts as a city has them: with and without second factor, disabled, without password, out of office."""
    people, test = city.accounts.people, Actor("civicgate users", "root")
    for person in (CABLE, HERALD, CLERK, "left@city.example", "new@city.example"):
        await people.add(person, test, admin=person == CABLE)
    for person in (CABLE, HERALD, CLERK, "left@city.example"):
        await people.set_password(person, "three wooden bridges", test)
    for person in (CABLE, HERALD):
        secret = totp.from_digest(hashlib.sha256(person.encode()).hexdigest())
        await people.enrol(person, secret, totp.code_at(secret, totp.step_at(city.clock())), Actor(person, "console"))
    await people.disable("left@city.example", Actor(CABLE, "console from 192.0.2.7"))
    until, now = city.clock() + timedelta(days=60), Actor(CABLE, "console from 192.0.2.7")
    for person, scope in ((CABLE, Scope.READ), (HERALD, Scope.DECIDE)):
        await city.accounts.tokens.add("Ticket system of the service desk", person, scope, until, now)
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    for person, method in ((CABLE, Method.PASSWORD), (HERALD, Method.PASSWORD), (GARDENER, Method.OIDC)):
        await city.accounts.sessions.start(person, Stage.FULL, Visit(method, "192.0.2.7", agent))


def settings_for(folder: Path, port: int, **changes: Any) -> Settings:
    """Settings that keep everything below ``folder``."""
    values: dict[str, Any] = {
        "spool": {"directory": str(folder / "spool")},
        "store": {"directory": str(folder / "store"), "key_file": str(folder / "store" / "body.key")},
        "notices": {"templates": str(ROOT / "config" / "templates")},
        "metrics": {"directory": str(folder / "metrics")},
        "policy": {
            "rules": str(ROOT / "rules"),
            "directory": str(ROOT / "config" / "directory.yaml"),
            "clauses": str(ROOT / "config" / "clauses.yaml"),
        },
        "console": {"address": f"127.0.0.1:{port}"},
        "log": {"level": "error"},
    }
    return Settings.model_validate({**values, **changes})


@asynccontextmanager
async def town(folder: Path, *, serve: bool = True, **changes: Any) -> AsyncIterator[Town]:
    """A town; with ``serve`` its console answers at ``url``."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        settings = settings_for(folder, port, **changes)
        rules, directory, _ = load_policy(settings)
        hold = await open_hold(settings, directory)
        try:
            accounts = Accounts(hold.core.database, settings.console, seal=Seal(hold.core.bodies))
            made = Town(settings, hold, accounts, directory, rules)
            hold.core.clock = made.clock
            made.url = settings.console.url
            if not serve:
                yield made
                return
            async with serving(made, listening):
                yield made
        finally:
            await hold.close()


@asynccontextmanager
async def serving(made: Town, listening: socket.socket) -> AsyncIterator[None]:
    """Answer on this socket until the block ends."""
    config = uvicorn.Config(
        build(made.services()), lifespan="off", log_level="warning", server_header=False, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listening]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


OPEN_STATES = frozenset({State.HELD, State.ATTESTING})

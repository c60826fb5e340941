"""What a hostile reading of the console found, each a test named for what broke."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx
import pytest
import pytest_asyncio
import uvicorn
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts import Method, Stage, Visit
from gateway.accounts.tokens import Scope
from gateway.console import connection
from gateway.console.pages import numbers
from gateway.console.pages.exceptions import kinds
from gateway.hold.decide import Order
from gateway.hold.store import console_address
from gateway.model.envelope import ExceptionRecord
from gateway.settings import OidcSettings, Settings
from gateway.store.events import Actor
from gateway.store.tables import held
from tests.browser.town import CABLE, CLERK, GARDENER, HERALD, MANAGER, PARK, Town, town
from tests.ports import free_port
from tests.unit.console.serving import NO_TLS, Quiet
from tests.unit.console.visiting import visitor

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = ["0", "-1", "0000000019999999", "000000001" + "9" * 30, "9" * 400, "1.5", "٣", "1 ", "+1"]
NUMBER_IDS = ["zero", "negative", "prefix", "prefix-long", "endless", "fraction", "arabic", "blank", "plus"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A running console with a morning's mail."""
    async with town(tmp_path_factory.mktemp("town")) as made:
        await made.populate()
        yield made


async def _api(city: Town, person: str, scope: Scope = Scope.DECIDE) -> httpx.AsyncClient:
    until = city.clock() + timedelta(days=1)
    secret, _ = await city.accounts.tokens.add("test", person, scope, until, Actor("test"))
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(**NO_TLS, base_url=f"{city.url}/api/v1", headers=headers, timeout=20)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NUMBERS, ids=NUMBER_IDS)
async def test_a_number_that_begins_like_one_in_range_is_none(text: str) -> None:
    """«0000000019999999» passed as 1 and counted as 19,999,999; longer ones were a fault of the page."""
    assert numbers.whole(text, numbers.MOST_DAYS) is None


async def test_the_ends_of_the_range_are_numbers() -> None:
    """1 and the most; a size up to a terabyte, and nothing beyond what a database counts."""
    assert [numbers.whole(text, 366) for text in ("1", "366", "367")] == [1, 366, None]
    assert [numbers.octets(text) for text in ("80 MB", "1000 GB", "99999999999 GB", "9" * 30, "0")] == [
        80_000_000, 1_000_000_000_000, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"days": NUMBERS[2]}, {"days": NUMBERS[3]}, {"uses": NUMBERS[3]}, {"size": "9" * 30}, {"size": "99999999999 GB"}],
    ids=["days", "days-long", "uses", "size", "size-unit"],
)
async def test_numbers_of_an_exception_are_refused_and_no_fault(city: Town, change: dict[str, str]) -> None:
    """Each was a 500, or an exception that lasts for ever."""
    form = {"kind": next(iter(kinds(city.rules))), "sender": CLERK, "recipient": "*", "reason": "r", "days": "7"}
    before = await city.hold.exceptions.list(everything=True)
    async with visitor(city, CABLE) as admin:
        got = await admin.post("/exceptions", **{"uses": "", "size": "", **form, **change})
    assert got.status_code == 409
    assert await city.hold.exceptions.list(everything=True) == before


@pytest.mark.parametrize(
    "change",
    [
        {"expires": "9999-12-31T23:59:59-12:00"},
        {"expires": (datetime.now(UTC) + timedelta(days=400)).isoformat()},
        {"max_size": 2**70},
        {"sender": "x\x00@city.example"},
        {"reason": "\x00"},
    ],
    ids=["end-of-time", "too-long", "size", "nul-address", "nul-reason"],
)
async def test_an_exception_by_program_has_the_limits_of_the_page(city: Town, change: dict[str, Any]) -> None:
    """An end beyond a year, a size that no database counts, and characters that no text has are refused."""
    body = {"kind": next(iter(kinds(city.rules))), "sender": CLERK, "reason": "r"}
    body["expires"] = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    before = await city.hold.exceptions.list(everything=True)
    async with await _api(city, CABLE) as http:
        got = await http.post("/exceptions", json=body | change)
    assert got.status_code in (409, 422)
    assert await city.hold.exceptions.list(everything=True) == before


async def test_a_page_of_the_api_is_never_longer_than_its_limit(city: Town) -> None:
    """«limit=000000001999…» gave out everything, or was a fault."""
    async with await _api(city, CABLE) as http:
        for text in NUMBERS:
            assert (await http.get("/items", params={"limit": text})).status_code == 400


# --- what is offered --------------------------------------------------------------------------------------------------

_MANY = tuple(f"person{number}@city.example" for number in range(51))


@pytest.mark.parametrize(
    ("order", "to", "offered"),
    [
        ({}, ("everyone@city.example", "a@parks.example"), ["", "@city.example", "@parks.example", "*"]),
        ({"roles": ("list-owners",)}, ("everyone@city.example",), [""]),
        ({}, _MANY, ["@city.example", "*"]),
        ({"roles": ("list-owners",)}, ("everyone@city.example", *_MANY), []),
        ({"exceptions": ()}, ("everyone@city.example",), []),
    ],
    ids=["two-domains", "owners", "many", "owners-many", "no-exceptions"],
)
async def test_the_form_offers_what_the_desk_takes(
    city: Town, order: dict[str, Any], to: tuple[str, ...], offered: list[str]
) -> None:
    """«Approve and allow» offered «anybody» to owners of lists, who were then refused. All that is offered works."""
    order = {"roles": ("communications-specialist",), "exceptions": ("mass-mail",)} | order
    async with visitor(city, HERALD) as one:
        ident = await city.keep("To be allowed", to=to, **order)
        page = (await one.get(f"/items/{ident}")).text
        form = re.search(r'<select id="allow-to".*?</select>', page)
        assert re.findall(r'value="([^"]*)"', form[0] if form else "") == offered
        assert ('value="allow"' in page) is bool(offered)
        for scope in ("", "@city.example", "*"):
            item = await city.item(await city.keep("To be allowed", to=to, **order))
            typed = {"action": "allow", "digest": item.message.sha256, "comment": "r", "days": "7", "scope": scope}
            done = await one.post(f"/items/{item.id}", "/account", **typed)
            assert done.status_code == (303 if scope in offered else 409), scope


# --- what people wrote ------------------------------------------------------------------------------------------------


async def test_comments_are_as_sealed_as_the_message(city: Town) -> None:
    """What approvers write quotes the mail: others, also administrators, see that something was said, not what."""
    ident = await city.keep("Sealed words")
    secret = "The salaries in it are wrong."
    await city.hold.desk.comment(Order(ident, MANAGER, comment=secret, os_user="console"))
    await city.hold.desk.approve(Order(ident, MANAGER, comment=secret, os_user="console"))
    for person, may in ((HERALD, True), (CLERK, True), (CABLE, False), (PARK, False)):
        async with visitor(city, person) as one, await _api(city, person) as http:
            for answer in (
                await one.get(f"/items/{ident}"),
                await one.get(f"/items/{ident}/history"),
                await http.get(f"/items/{ident}"),
                await http.get(f"/items/{ident}/history"),
            ):
                assert answer.status_code == 200
                assert (secret in answer.text) is may, (person, answer.url)


async def test_reading_again_and_again_is_one_line_of_the_page(city: Town) -> None:
    """Ten looks filled the history; they are one line there, and each stands in the record."""
    ident = await city.keep("Read often")
    async with visitor(city, MANAGER) as one:
        for _ in range(3):
            await one.get(f"/items/{ident}")
        page, record = await one.get(f"/items/{ident}"), await one.get(f"/items/{ident}/history")
    assert (page.text.count("Read: the text"), record.text.count("Read: the text")) == (1, 4)


async def test_deciding_several_tells_nothing_of_others_mail(city: Town) -> None:
    """The form for several named the approvers of any id to anybody; now it is as if there were none."""
    ident = await city.keep("Not the gardener's")
    digest = (await city.item(ident)).message.sha256
    async with visitor(city, GARDENER) as other:
        answers = [
            (await other.post("/held", "/account", action="approve", item=[f"{name}:{digest}"])).text.replace(
                name, "ID"
            )
            for name in (ident, "T99999-h1")
        ]
    assert "There is no such message" in answers[0]
    assert MANAGER not in answers[0]
    assert answers[0] == answers[1]


async def test_queue_facts_by_program_are_for_who_sees_the_page(city: Town) -> None:
    """Anybody's token read them; the system's page is for administrators and holders of a role."""
    async with await _api(city, CLERK) as http:
        assert (await http.get("/queues")).status_code == 403
    async with await _api(city, HERALD) as http:
        assert (await http.get("/queues")).status_code == 200


async def test_names_of_queues_are_not_for_everybody(city: Town) -> None:
    """Who sees no mail of others is not told by a filter in which queues some waits."""
    async with visitor(city, CLERK) as person:
        assert "executables" not in (await person.get("/held")).text
    async with visitor(city, CABLE) as admin:
        assert "executables" in (await admin.get("/held")).text


# --- the wire ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_method_is_told_the_right_ones(city: Town) -> None:
    """405 carries Allow (RFC 9110 section 15.5.6), on pages and in the API."""
    async with httpx.AsyncClient(**NO_TLS, base_url=city.url) as http:
        for path, allow in (("/login", "GET, HEAD, POST"), ("/logout", "POST"), ("/api/v1/queues", "GET, HEAD")):
            got = await http.request("OPTIONS", path)
            assert (got.status_code, got.headers["allow"]) == (405, allow)


@pytest_asyncio.fixture(loop_scope="module")
async def console(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Port of a server with the console's connections, quick to lose patience, that answers 204 to everything."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr(connection, "HEAD", 0.3)
    port = free_port()
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, http=connection.protocol(()), ws="none", lifespan="off", log_config=None
    )
    server = Quiet(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield port
    server.should_exit = True
    await task


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ],
    ids=["silent", "half-a-header", "half-a-second-one", "half-a-body-nobody-reads"],
)
async def test_silence_holds_no_connection(console: int, sent: bytes) -> None:
    """Two hundred silent connections shut the console for everybody, for ever: now each is closed in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", console)
    writer.write(sent)
    async with asyncio.timeout(5):
        got = await reader.read()
    assert got.count(b"HTTP/1.1 204") == sent.count(b"\r\n\r\n")
    writer.close()


async def test_one_client_cannot_have_all_connections(console: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is one too many of an address is closed at once; the others go on."""
    monkeypatch.setattr(connection, "HEAD", 60.0)  # none of them goes for its silence meanwhile
    opened = [await asyncio.open_connection("127.0.0.1", console) for _ in range(connection.MOST_OF_ONE)]
    reader, writer = await asyncio.open_connection("127.0.0.1", console)
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    opened[0][1].write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await opened[0][0].read()).startswith(b"HTTP/1.1 204")
    for _, one in opened:
        one.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [("orders", "nonsense"), ("recipients", "nonsense"), ("recipients", "[]"), ("parties", "nonsense")],
    ids=["orders", "recipients", "nobody", "parties"],
)
async def test_a_row_that_cannot_be_read_is_a_damaged_row_of_the_page(city: Town, column: str, value: str) -> None:
    """It stands in the lists as damaged; its own page says so in words, not that the store does not answer."""
    ident, whole = await city.keep("Unreadable"), await city.keep("Whole")

    async def put(value: str) -> str:
        async def work(link: AsyncConnection) -> str:
            before = (await link.execute(select(held.c[column]).where(held.c.id == ident))).scalar_one()
            await link.execute(update(held).where(held.c.id == ident).values({column: value}))
            return str(before)

        return await city.hold.core.database.write(work)

    before = await put(value)
    try:
        async with visitor(city, CABLE) as admin, visitor(city, CLERK) as sender, await _api(city, CABLE) as http:
            for path in ("/held?state=all", "/", "/held?sort=size", "/system"):
                assert (await admin.get(path)).status_code == 200, path
            for path in ("/mine", "/", "/held"):
                assert (await sender.get(path)).status_code == 200, path
            listed = {row["id"]: row["state"] for row in (await http.get("/items?limit=200")).json()["items"]}
            shown, told = await admin.get(f"/items/{ident}"), await sender.get(f"/items/{ident}")
            program = await http.get(f"/items/{ident}")
        assert listed[whole] == "held"
        if value == "nonsense" and column != "parties":
            assert listed[ident] == "damaged"
            assert (shown.status_code, "cannot be read" in shown.text, program.status_code) == (409, True, 409)
            assert told.status_code == 404
    finally:
        await put(before)


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_who_left_the_directory_is_logged_out(city: Town) -> None:
    """A session through the identity provider lived on for hours after IT had taken the person out."""
    secret = await city.accounts.sessions.start("gone@city.example", Stage.FULL, Visit(Method.OIDC, "192.0.2.9", "b"))
    async with httpx.AsyncClient(**NO_TLS, base_url=city.url, cookies={"civicgate": secret}) as http:
        assert (await http.get("/account")).status_code == 303
    secret = await city.accounts.sessions.start(CLERK, Stage.FULL, Visit(Method.OIDC, "192.0.2.9", "b"))
    async with httpx.AsyncClient(**NO_TLS, base_url=city.url, cookies={"civicgate": secret}) as http:
        assert (await http.get("/account")).status_code == 200
    assert OidcSettings().known_people_only


async def test_a_token_of_an_administrators_account_is_an_administrators(city: Town) -> None:
    """`users add --admin` counts for the person's programs as it does for the person."""
    await city.accounts.people.add("root@city.example", Actor("test"), admin=True)
    async with await _api(city, "root@city.example") as http:
        assert (await http.get("/queues")).status_code == 200
    async with await _api(city, "gone@city.example") as http:
        assert (await http.get("/items")).status_code == 401, "neither in the directory nor an account"


@pytest.mark.parametrize(
    ("console", "address"),
    [
        ({"enabled": False, "base_url": "https://mail.city.example/gate"}, "https://mail.city.example/gate"),
        ({"enabled": True, "base_url": "https://mail.city.example"}, "https://mail.city.example"),
        ({"enabled": True, "address": "192.0.2.1:8480"}, "http://192.0.2.1:8480"),
        ({"enabled": False, "address": "192.0.2.1:8480"}, ""),
        ({"enabled": True, "address": "127.0.0.1:8480"}, ""),
        ({"enabled": True, "address": "0.0.0.0:8480"}, ""),
        ({"enabled": True, "address": "[::]:8480"}, ""),
    ],
    ids=["another-node", "proxy", "own", "off", "loopback", "all-addresses", "all-addresses-6"],
)
async def test_letters_link_to_the_console_that_people_reach(console: dict[str, Any], address: str) -> None:
    """A node without a console wrote no links though another serves it; one on all addresses linked to 0.0.0.0."""
    assert console_address(Settings.model_validate({"console": console})) == address


async def test_an_exception_for_an_alias_is_the_persons(city: Town) -> None:
    """Others see only their own: also that for another writing of their address. Its end names who and from where."""
    now = city.clock()
    record = ExceptionRecord(
        "xalias0001", next(iter(kinds(city.rules))), CLERK.replace("@", "+news@"), "*", "r", CABLE, now,
        now + timedelta(days=1),
    )  # fmt: skip
    await city.hold.exceptions.add(record)
    async with visitor(city, CLERK) as person, visitor(city, GARDENER) as other, visitor(city, CABLE) as admin:
        assert "xalias0001" in (await person.get("/exceptions")).text
        assert "xalias0001" not in (await other.get("/exceptions")).text
        assert (await admin.post("/exceptions/xalias0001/revoke", "/exceptions")).status_code == 303
    last = (await city.hold.history("xalias0001"))[-1]
    assert (last.event, last.actor, last.os_user) == ("exception-revoked", CABLE, "console from 127.0.0.1")

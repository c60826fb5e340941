"""Passwords, codes, waits, links, tokens, and the trace that each change leaves."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from sqlalchemy import select

from gateway.accounts import Accounts, Method, Stage, Visit, passwords, totp
from gateway.accounts.core import derived, digest, new_secret
from gateway.accounts.door import Outcome
from gateway.accounts.throttle import account_key, client_key
from gateway.accounts.tokens import Scope
from gateway.errors import OperatorError
from gateway.settings import ConsoleSettings
from gateway.store import events, tables
from gateway.store.bodies import Bodies
from gateway.store.database import Database
from gateway.store.events import Actor
from gateway.store.postgres import Server
from gateway.store.sealing import Seal
from tests.postgresql import Cluster

CLERK, BOSS = "clerk@city.example", "boss@city.example"
PASSWORD = "three wooden bridges"
ACTOR = Actor("tester", "root")


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def move(self, **span: float) -> None:
        """Later."""
        self.now += timedelta(**span)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parameters."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows."""
    path = tmp_path_factory.mktemp("accounts") / "store.db"

    async def make() -> None:
        await (await Database.open(path)).close()

    asyncio.run(make())
    return path


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, empty: Path) -> Iterator[Path | Server]:
    """A database without rows: SQLite, or PostgreSQL for the tests that ask for both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(empty, tmp_path / "store.db")
        yield tmp_path / "store.db"
        return
    server: Cluster = request.getfixturevalue("cluster")
    with server.database(request.getfixturevalue("template")) as url:
        yield Server(url)


both = pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
async def accounts(place: Path | Server, clock: Clock, cheap: None, tmp_path: Path) -> AsyncIterator[Accounts]:
    """Accounts on a database of their own."""
    seal = Seal(Bodies.local(tmp_path / "bodies", tmp_path / "body.key"))
    found = Accounts(await Database.open(place), ConsoleSettings(), clock, seal)
    yield found
    await found.close()


async def _events(accounts: Accounts, address: str = CLERK) -> list[tuple[str, str, str]]:
    async with accounts.core.database.read() as connection:
        return [(e.event, e.actor, e.os_user) for e in await events.entries(connection, f"account:{address}")]


async def _column(accounts: Accounts, column: Any) -> list[Any]:
    async with accounts.core.database.read() as connection:
        return list((await connection.execute(select(column))).scalars())


# --- passwords ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "short", "elevenchars", "password1234", "Password12345!", "p@ssw0rd2026!!", "123456789012", "qwertyuiop123",
        "aaaaaaaaaaaaaaaa",
        "abababababab", "abcdefghijklmnop", "CivicGate2026!", "letmeinletmein", "Welcome2City2026",
        "clerkclerkclerk", "clerk@city.example", "x" * 257, "            ", "iloveyou1234", "Summer2026!!", "",
    ],
    ids=lambda text: f"n{len(text)}-{text[:10].strip() or 'blank'}",
)  # fmt: skip
def test_passwords_that_are_tried_first_are_refused(password: str) -> None:
    """Short, endless, common with or without digits and look-alikes, rows of keys, repetitions, the own address."""
    with pytest.raises(OperatorError):
        passwords.check(password, CLERK, 12)


@pytest.mark.parametrize(
    "password",
    ["three wooden bridges", "correct horse battery", "kT7#mmPq02xz", "жили у бабуси два гуся", "ångströms fjäll",
     "x9" + "lamp post " * 20],
    ids=["words", "more-words", "random", "cyrillic", "swedish", "long"],
)  # fmt: skip
def test_good_passwords_are_taken_whatever_they_are_made_of(password: str) -> None:
    """No kinds of characters are asked for (NIST SP 800-63B section 3.1.1.2)."""
    passwords.check(password, CLERK, 12)


async def test_hashes_are_argon2id_of_the_recommended_strength() -> None:
    """RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes; a salt of its own each time."""
    hashes = passwords.Hashes()
    one, other = await hashes.make(PASSWORD), await hashes.make(PASSWORD)
    found = extract_parameters(one)
    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (Type.ID, 65536, 3, 4)
    assert one != other
    assert await hashes.fits(one, PASSWORD)
    assert not await hashes.fits(one, PASSWORD + " ")
    assert not await hashes.fits("", PASSWORD)
    assert not await hashes.fits("no hash at all", PASSWORD)


async def test_old_parameters_are_renewed_at_the_next_login(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login with the right password hashes it anew when the parameters have changed."""
    await accounts.people.add(CLERK, ACTOR)
    await accounts.people.set_password(CLERK, PASSWORD, ACTOR)
    (before,) = await _column(accounts, tables.account.c.password)
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    assert (await accounts.door.password(CLERK, PASSWORD, Visit(Method.PASSWORD), second=False)).outcome is Outcome.OK
    (after,) = await _column(accounts, tables.account.c.password)
    assert before != after
    assert extract_parameters(after).time_cost == 2


# --- codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"),
     (2000000000, "279037"), (20000000000, "353130")],
    ids=["59", "1111111109", "1111111111", "1234567890", "2000000000", "20000000000"],
)  # fmt: skip
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    """Appendix B's table for SHA-1, the last six of its eight digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    at = datetime.fromtimestamp(seconds, UTC)
    assert totp.code_at(secret, totp.step_at(at)) == code
    assert totp.matching_step(secret, code, at, 0) == seconds // 30


def test_a_code_holds_for_a_step_before_and_after_and_never_twice() -> None:
    """The phone's clock may be off by half a minute; a step that was used, and all before it, are over."""
    secret, now = totp.from_digest(digest(new_secret())), datetime(2026, 11, 22, 8, 0, 15, tzinfo=UTC)
    code, step = totp.code_at(secret, totp.step_at(now)), totp.step_at(now)
    near = [totp.matching_step(secret, code, now + timedelta(seconds=s), 0) for s in (-46, -45, 0, 30, 45)]
    assert near == [None, step, step, step, None]
    assert totp.matching_step(secret, code, now, step) is None
    assert totp.matching_step(secret, totp.code_at(secret, step - 1), now, step) is None
    assert totp.matching_step(secret, totp.code_at(secret, step + 1), now, step) == step + 1
    for odd in ("", "12345", "１２３４５６", "\ud800", code + "0"):
        assert totp.matching_step(secret, odd, now, 0) is None


def test_the_picture_says_what_apps_read() -> None:
    """otpauth://totp/ISSUER:ACCOUNT with secret, issuer, digits and period; nothing that needs escaping breaks it."""
    address = totp.address_of("ABC", "o'neil+x@city.example", "City & Town")
    assert address == (
        "otpauth://totp/City%20%26%20Town:o%27neil%2Bx%40city.example"
        "?secret=ABC&issuer=City%20%26%20Town&digits=6&period=30"
    )


@both
async def test_two_uses_of_a_code_at_the_same_instant_are_one(accounts: Accounts, clock: Clock) -> None:
    """Of ten requests with the right code, one gets in."""
    await accounts.people.add(CLERK, ACTOR)
    secret = totp.from_digest(digest("x"))
    await accounts.people.enrol(CLERK, secret, totp.code_at(secret, totp.step_at(clock())), ACTOR)
    clock.move(seconds=60)
    half = [await accounts.sessions.start(CLERK, Stage.CODE, Visit(Method.PASSWORD)) for _ in range(4)]
    code = totp.code_at(secret, totp.step_at(clock()))

    async def use(secret_: str) -> Outcome:
        session = await accounts.sessions.find(secret_)
        assert session is not None
        return (await accounts.door.code(secret_, session, code)).outcome

    assert sorted(await asyncio.gather(*map(use, half))) == [Outcome.FAILED] * 3 + [Outcome.OK]


# --- waits ----------------------------------------------------------------------------------------------------------


@both
async def test_waits_double_up_to_the_setting_and_are_forgotten(accounts: Accounts, clock: Clock) -> None:
    """None for four, 1 s after the fifth, then 2, 4 … at most 15 min; a day without an attempt begins anew."""
    key = account_key(CLERK)
    for expected in (0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900):
        assert await accounts.throttle.attempt(key) == 0, "looked at, and counted"
        if expected:
            assert await accounts.throttle.attempt(key, client_key("192.0.2.1")) == expected, "refused, not counted"
            clock.move(seconds=expected)
    clock.move(hours=23)
    assert await accounts.throttle.attempt(key) == 0
    assert await accounts.throttle.attempt(key) == 900
    clock.move(hours=24)
    assert await accounts.throttle.attempt(key) == 0
    assert await accounts.throttle.attempt(key) == 0


async def test_a_right_login_forgets_the_account_s_count(accounts: Accounts, clock: Clock) -> None:
    """Four typing errors, the right password, four more: nobody waits."""
    await accounts.people.add(CLERK, ACTOR)
    await accounts.people.set_password(CLERK, PASSWORD, ACTOR)
    for _ in range(3):
        for password, outcome in [("wrong", Outcome.FAILED)] * 4 + [(PASSWORD, Outcome.OK)]:
            visit = Visit(Method.PASSWORD, "192.0.2.1")
            assert (await accounts.door.password(CLERK, password, visit, second=False)).outcome is outcome


@pytest.mark.parametrize(
    ("client", "key"),
    [("192.0.2.1", "client:192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "client:2001:db8:1:2::"),
     ("::ffff:192.0.2.1", "client:192.0.2.1"), ("", "client:unknown"), ("x\ny", "client:unknown")],
    ids=["v4", "v6", "mapped", "none", "nonsense"],
)  # fmt: skip
def test_machines_are_counted_by_network_where_addresses_are_free(client: str, key: str) -> None:
    """An IPv6 client has 2^64 addresses: its /64 counts."""
    assert client_key(client) == key


# --- trace ----------------------------------------------------------------------------------------------------------


@both
async def test_every_change_is_one_event_of_a_chain_that_holds(accounts: Accounts, clock: Clock) -> None:
    """Who did what to which account, in order; a change that fails leaves none."""
    people = accounts.people
    await people.add(CLERK, ACTOR, admin=True)
    await people.set_password(CLERK, PASSWORD, ACTOR)
    await people.make_link(CLERK, ACTOR)
    secret = totp.from_digest(digest("x"))
    await people.enrol(CLERK, secret, totp.code_at(secret, totp.step_at(clock())), ACTOR)
    await people.reset_totp(CLERK, ACTOR)
    await people.disable(CLERK, ACTOR)
    await people.enable(CLERK, ACTOR)
    await accounts.door.password(CLERK, PASSWORD, Visit(Method.PASSWORD, "192.0.2.1"), second=False)
    await accounts.sessions.end_all(CLERK, ACTOR)
    _, token = await accounts.tokens.add("desk", CLERK, Scope.READ, clock() + timedelta(days=1), ACTOR)
    await accounts.tokens.revoke(token.id, ACTOR)
    for bad in (
        people.add(CLERK.upper(), ACTOR), people.add("no address", ACTOR), people.disable(BOSS, ACTOR),
        people.get(BOSS),
        people.set_password(CLERK, "short", ACTOR), people.set_password(BOSS, PASSWORD, ACTOR),
        people.enrol(CLERK, secret, "000000", ACTOR), people.use_link("nothing", PASSWORD, ""),
        accounts.tokens.revoke(token.id, ACTOR), accounts.tokens.revoke("none", ACTOR),
        accounts.tokens.add(" ", CLERK, Scope.READ, clock() + timedelta(days=1), ACTOR),
        accounts.tokens.add("late", CLERK, Scope.READ, clock(), ACTOR),
    ):  # fmt: skip
        with pytest.raises(OperatorError):
            await bad
    names = [name for name, _, _ in await _events(accounts)]
    assert names == [
        "account-added", "password-set", "setup-link-made", "totp-enrolled", "totp-reset", "account-disabled",
        "account-enabled", "logged-in", "sessions-ended", "token-added", "token-revoked",
    ]  # fmt: skip
    assert {row[1:] for row in await _events(accounts) if row[0] != "logged-in"} == {("tester", "root")}
    async with accounts.core.database.read() as connection:
        assert (await events.verify(connection))[0] == 11


async def test_no_secret_is_in_any_event(accounts: Accounts, clock: Clock) -> None:
    """Neither token, link, password nor code ends up in the record."""
    await accounts.people.add(CLERK, ACTOR)
    await accounts.people.set_password(CLERK, PASSWORD, ACTOR)
    link, _ = await accounts.people.make_link(CLERK, ACTOR)
    token, _ = await accounts.tokens.add("desk", CLERK, Scope.READ, clock() + timedelta(days=1), ACTOR)
    comments = " ".join(await _column(accounts, tables.event.c.comment))
    for secret in (link, token, PASSWORD, digest(link), digest(token)):
        assert secret not in comments


@both
async def test_two_uses_of_a_link_at_the_same_instant_are_one(accounts: Accounts) -> None:
    """One sets the password, the other is told that the link is over."""
    await accounts.people.add(CLERK, ACTOR)
    link, _ = await accounts.people.make_link(CLERK, ACTOR)
    uses = (accounts.people.use_link(link, f"{PASSWORD} {n}", "console") for n in range(4))
    done = await asyncio.gather(*uses, return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["OperatorError"] * 3 + ["str"]


async def test_a_session_of_a_disabled_account_opens_nothing(accounts: Accounts) -> None:
    """Also one that came into being in the same moment (the provider let the person in while the account was ended)."""
    await accounts.people.add(CLERK, ACTOR)
    await accounts.people.disable(CLERK, ACTOR)
    secret = await accounts.sessions.start(CLERK, Stage.FULL, Visit(Method.OIDC))
    assert await accounts.sessions.find(secret) is None


@both
async def test_two_promotions_of_a_session_are_one(accounts: Accounts) -> None:
    """The secret of a half login becomes one session, not two."""
    await accounts.people.add(CLERK, ACTOR)
    secret = await accounts.sessions.start(CLERK, Stage.ENROL, Visit(Method.PASSWORD))
    done = await asyncio.gather(*(accounts.sessions.promote(secret, Stage.FULL) for _ in range(4)))
    assert len([one for one in done if one]) == 1
    assert len(await accounts.sessions.list(CLERK)) == 1


@both
async def test_attempts_at_one_instant_are_counted_whole(accounts: Accounts) -> None:
    """Twenty at once, from many machines: five are looked at."""
    keys = [(account_key(CLERK), client_key(f"192.0.2.{n}")) for n in range(20)]
    waits = await asyncio.gather(*(accounts.throttle.attempt(*pair) for pair in keys))
    assert waits.count(0) == 5


@both
async def test_over_sessions_are_swept(accounts: Accounts, clock: Clock) -> None:
    """The table holds what can still be used: each login takes away what is over."""
    await accounts.people.add(CLERK, ACTOR)
    for _ in range(5):
        await accounts.sessions.start(CLERK, Stage.FULL, Visit(Method.PASSWORD))
        clock.move(hours=13)
    assert len(await _column(accounts, tables.session.c.id)) == 1


@both
async def test_what_administrators_ask_of_the_accounts(accounts: Accounts, clock: Clock) -> None:
    """Numbers of whole sessions; new codes for who has a second factor; a token of another's is none of theirs."""
    await accounts.people.add(CLERK, ACTOR)
    await accounts.people.set_password(CLERK, PASSWORD, ACTOR)
    for stage in (Stage.FULL, Stage.FULL, Stage.CODE):
        await accounts.sessions.start(CLERK, stage, Visit(Method.PASSWORD))
    assert await accounts.sessions.counts() == {CLERK: 2}
    clock.move(hours=2)
    assert await accounts.sessions.counts() == {}
    with pytest.raises(OperatorError, match="second factor"):
        await accounts.people.new_codes(CLERK, ACTOR)
    secret = totp.from_digest(digest("x"))
    old = await accounts.people.enrol(CLERK, secret, totp.code_at(secret, totp.step_at(clock())), ACTOR)
    assert len({*old, *await accounts.people.new_codes(CLERK, ACTOR)}) == 20
    assert (await accounts.people.get(CLERK)).recovery_codes == 10
    _, token = await accounts.tokens.add("x", CLERK, Scope.READ, clock() + timedelta(days=1), ACTOR)
    with pytest.raises(OperatorError, match="no token"):
        await accounts.tokens.revoke(token.id, ACTOR, "other@city.example")
    assert (await accounts.tokens.revoke(token.id, ACTOR, CLERK)).id == token.id
    mark = await accounts.door.mark(CLERK)
    assert (
        await accounts.door.password(CLERK, PASSWORD, Visit(Method.PASSWORD), second=False, mark=mark)
    ).outcome == "ok"


def test_what_is_derived_tells_nothing_of_the_secret() -> None:
    """Another purpose, another secret; none of them the secret or its digest."""
    secret = new_secret()
    made = [derived(secret, purpose) for purpose in ("csrf", "totp", "state x")]
    assert len({*made, secret, digest(secret)}) == 5
    assert len(secret) == 43

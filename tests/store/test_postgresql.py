"""What is PostgreSQL's own: nodes beside each other, a server that goes and comes back, a password nobody prints."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError, StoreError
from gateway.hold import Acceptance, Delivery, DeliveryResult, Hold, Outbox, OutgoingGroup, State, open_hold
from gateway.hold.decide import Order
from gateway.hold.outbox import Deliver
from gateway.model.reply import Reply
from gateway.settings import Settings, StoreSettings
from gateway.store.copying import copy
from gateway.store.database import Database
from gateway.store.opening import open_database, open_store, place
from gateway.store.postgres import Server
from tests import postgresql
from tests.postgresql import Cluster

Make = Callable[..., Acceptance]
OK = Reply.of(250, "2.0.0", "ok")
DORA, CARL = "dora@city.example", "carl@city.example"


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server that the test may stop."""
    with postgresql.running() as one:
        yield one


@pytest.fixture
def far(settings: Settings, cluster: Cluster, template: str) -> Iterator[Settings]:
    """Settings with a PostgreSQL database."""
    with cluster.database(template) as url:
        yield on(settings, url)


def on(settings: Settings, url: str) -> Settings:
    """The same settings with another database."""
    return settings.model_copy(update={"store": settings.store.model_copy(update={"database": url})})


@asynccontextmanager
async def nodes(settings: Settings, city: Any, count: int = 2) -> AsyncIterator[list[Hold]]:
    """So many gateways on one store."""
    opened = [await open_hold(settings, city) for _ in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            await one.close()


@pytest.mark.sqlite
async def test_two_nodes_share_the_outbox(
    far: Settings, city: Any, acceptance: Make, recipient: Callable[..., Any]
) -> None:
    """Two hundred rows, two outboxes that deliver at the same time: each row once, both at work, no body left."""
    delivered: Counter[str] = Counter()
    by: Counter[int] = Counter()

    def next_hop(node: int) -> Deliver:
        async def deliver(delivery: Delivery) -> DeliveryResult:
            await delivery.copy(len)
            delivered[delivery.id] += 1
            by[node] += 1
            return DeliveryResult(tuple(OK for _ in delivery.recipients), OK)

        return deliver

    async with nodes(far, city) as (one, two):
        for number in range(100):
            groups = tuple(OutgoingGroup((recipient(f"p{number}-{n}@city.example"),)) for n in (1, 2))
            await one.accept(acceptance(f"T{number}", held=(), outgoing=groups))
        workers = [
            asyncio.create_task(Outbox(hold, next_hop(node), far.outbox, owner=f"node{node}").run())
            for node, hold in enumerate((one, two))
        ]
        try:
            async with asyncio.timeout(150):
                while (await one.queue_facts()).outbox:
                    await asyncio.sleep(0.1)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        assert set(delivered.values()) == {1}
        assert sum(delivered.values()) == 200
        assert min(by.values()) > 20
        assert [name for name, _ in one.core.bodies.objects.all()] == []


async def test_two_nodes_decide_at_the_same_instant(settings: Settings, city: Any, acceptance: Make) -> None:
    """For each of ten items one says yes and one says no at once: one wins, the other is told, the chain holds."""
    async with nodes(settings, city) as (one, two):
        for number in range(10):
            await one.accept(acceptance(f"T{number}", outgoing=()))
            await one.desk.approve(Order(f"T{number}-h1", DORA))
        for number in range(10):
            order = Order(f"T{number}-h1", CARL, comment="because")
            other = Order(f"T{number}-h1", "cora@city.example", comment="because")
            said = await asyncio.gather(one.desk.approve(order), two.desk.reject(other), return_exceptions=True)
            told = [answer for answer in said if isinstance(answer, BaseException)]
            assert len(told) == 1, said
            assert isinstance(told[0], OperatorError)
            state = (await one.desk.read(f"T{number}-h1")).item.state
            assert state is (State.APPROVED if told[0] is said[1] else State.REJECTED)
        await two.verify_events()


async def test_both_needed_people_say_yes_at_the_same_instant(settings: Settings, city: Any, acceptance: Make) -> None:
    """Neither sees the other's word when both begin; all the same the item is released, once."""
    async with nodes(settings, city) as (one, two):
        for number in range(8):
            await one.accept(acceptance(f"T{number}", outgoing=()))
            ident = f"T{number}-h1"
            await asyncio.gather(one.desk.approve(Order(ident, DORA)), two.desk.approve(Order(ident, CARL)))
            assert (await one.desk.read(ident)).item.state is State.APPROVED
        async with one.core.database.read() as connection:
            rows = (await connection.execute(text("SELECT count(*) FROM outbox WHERE kind = 'release'"))).scalar()
        assert rows == 8
        await one.verify_events()


@pytest.mark.sqlite
async def test_the_server_is_gone_and_comes_back(
    own_cluster: Cluster, settings: Settings, city: Any, acceptance: Make, sink: Any
) -> None:
    """Killed in the middle of work: 451, nothing half-written; up again, the same process accepts and delivers."""
    far = on(settings, own_cluster.url(await asyncio.to_thread(own_cluster.create)))
    hold = await open_hold(far, city)
    running = asyncio.create_task(Outbox(hold, sink, far.outbox).run())
    try:
        await hold.accept(acceptance("T1"))
        bodies = sorted(name for name, _ in hold.core.bodies.objects.all() if name.startswith("T1."))
        own_cluster.stop(signal.SIGQUIT)
        with pytest.raises(StoreError) as caught:
            await hold.accept(acceptance("T2"))
        assert caught.value.reply.code == 451
        with pytest.raises(StoreError):
            await hold.list()
        own_cluster.start()
        await hold.accept(acceptance("T3"))
        assert [item.id for item in await hold.list()] == ["T1-h1", "T3-h1"]
        async with asyncio.timeout(30):
            while (await hold.queue_facts()).outbox:
                await asyncio.sleep(0.05)
        assert bodies == sorted(n for n, _ in hold.core.bodies.objects.all() if n.startswith("T1."))
        assert sorted(d.transaction for d, _ in sink.got if d.kind == "relay") == ["T1", "T3"]
        await hold.verify_events()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hold.close()


@pytest.mark.sqlite
async def test_a_commit_without_an_answer_is_looked_up(
    far: Settings, city: Any, acceptance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the server has committed: the message is accepted, not refused and sent twice."""
    hold = await open_hold(far, city)
    committed = AsyncConnection.commit

    async def cut(connection: AsyncConnection) -> None:
        await committed(connection)
        raise ConnectionResetError("cut off")

    monkeypatch.setattr(AsyncConnection, "commit", cut)
    try:
        await hold.accept(acceptance("T1"))
        assert [item.id for item in await hold.list()] == ["T1-h1"]

        async def never(_: AsyncConnection) -> None:
            raise ConnectionResetError("cut off before")

        monkeypatch.setattr(AsyncConnection, "commit", never)
        with pytest.raises(StoreError, match="cut off before"):
            await hold.accept(acceptance("T2"))
        assert [item.id for item in await hold.list()] == ["T1-h1"]
    finally:
        await hold.close()


async def crash(server: Server) -> None:
    """Kill -9 one backend: the server ends all others, recovers from its log, and goes on."""
    victim = await server.connect(5.0)
    os.kill(await victim.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
    victim.terminate()
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.05)
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await (await server.connect(5.0)).close()
                return


async def _writes_late(server: Server) -> None:
    """Nothing of a transaction that was not committed reaches the disk, so that a crash frees its number again."""
    asked = await server.connect(5.0)
    for setting in ("wal_writer_delay = '10s'", "autovacuum = off", "bgwriter_delay = '10s'"):
        await asked.execute(f"ALTER SYSTEM SET {setting}")
    await asked.execute("SELECT pg_reload_conf()")
    await asked.close()
    await asyncio.sleep(0.3)  # the writer's last short nap


@pytest.mark.sqlite
async def test_a_server_that_crashed_in_a_commit_is_not_believed(
    own_cluster: Cluster, settings: Settings, city: Any, acceptance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the lost transaction's number was another's by then, «committed»: a 250 for mail that was nowhere."""
    url = own_cluster.url(await asyncio.to_thread(own_cluster.create))
    hold = await open_hold(on(settings, url), city)
    server, database = Server(url), hold.core.database
    await _writes_late(server)
    await hold.accept(acceptance("T0"))
    names: list[str] = []
    begin, commit = database.kind.begin, AsyncConnection.commit

    async def noted(connection: AsyncConnection, *, alone: bool) -> str:
        names.append(await begin(connection, alone=alone))
        return names[-1]

    async def cut(connection: AsyncConnection) -> None:
        monkeypatch.setattr(AsyncConnection, "commit", commit)
        await crash(server)
        other = await server.connect(5.0)  # somebody else's transactions, with the numbers that are free again
        for number in range(5):
            await other.execute("INSERT INTO secret VALUES ($1, '')", str(number))
        await other.close()
        raise ConnectionResetError("cut off")

    monkeypatch.setattr(database.kind, "begin", noted)
    monkeypatch.setattr(AsyncConnection, "commit", cut)
    with pytest.raises(StoreError, match="crashed in the middle of a commit"):
        await hold.accept(acceptance("T1"))
    asked = await server.connect(5.0)
    number = names[0].split(" ")[0]
    assert await asked.fetchval("SELECT pg_xact_status($1::text::xid8)", number) == "committed", "as of old"
    await asked.close()
    assert [item.id for item in await hold.list()] == ["T0-h1"]
    assert not [name for name in (settings.store.directory / "bodies").iterdir() if name.name.startswith("T1")]
    await hold.accept(acceptance("T1"))
    await hold.close()


@pytest.mark.sqlite
async def test_a_crash_after_the_commit_is_no_451(
    own_cluster: Cluster, settings: Settings, city: Any, acceptance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not believed, but the message is there: accepted, and not sent twice."""
    url = own_cluster.url(await asyncio.to_thread(own_cluster.create))
    hold = await open_hold(on(settings, url), city)
    commit = AsyncConnection.commit

    async def late(connection: AsyncConnection) -> None:
        monkeypatch.setattr(AsyncConnection, "commit", commit)
        await commit(connection)
        await crash(Server(url))
        raise ConnectionResetError("cut off")

    monkeypatch.setattr(AsyncConnection, "commit", late)
    await hold.accept(acceptance("T1"))
    assert [item.id for item in await hold.list()] == ["T1-h1"]
    item = (await hold.desk.read("T1-h1")).item
    await hold.body(item, len)
    await hold.close()


@pytest.mark.sqlite
async def test_backends_that_are_killed_lose_nothing(far: Settings, city: Any, acceptance: Make, by_hand: Any) -> None:
    """Every connection is ended from outside while mail is accepted: what was accepted is there, and only that."""
    hold, server = await open_hold(far, city), Server(far.store.database)
    accepted: set[str] = set()
    over = asyncio.Event()

    async def clients(name: str) -> None:
        for number in range(25):
            try:
                await hold.accept(acceptance(f"{name}{number}", outgoing=()))
            except StoreError:
                continue
            accepted.add(f"{name}{number}-h1")

    async def axe() -> None:
        connection = await server.connect(10.0)
        while not over.is_set():
            await asyncio.sleep(0.3)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await connection.close()

    killing = asyncio.create_task(axe())
    await asyncio.gather(*(clients(name) for name in "AB"))
    over.set()
    await killing
    try:
        items = await hold.list()
        assert {item.id for item in items} == accepted
        assert len(accepted) > 5
        for item in items:
            await hold.body(item, len)
        await hold.verify_events()
    finally:
        await hold.close()


@pytest.mark.sqlite
async def test_deadlocks_are_tried_again(far: Settings, city: Any) -> None:
    """Two transactions that lock two rows crosswise: both are done in the end."""
    async with nodes(far, city) as (one, two):

        async def fill(connection: AsyncConnection) -> None:
            await connection.execute(text("INSERT INTO store VALUES ('a', '0'), ('b', '0')"))

        await one.core.database.write(fill)
        ran: list[str] = []

        async def lock(hold: Hold, order: str) -> None:
            async def work(connection: AsyncConnection) -> None:
                ran.append(order)
                for name in order:
                    await connection.execute(text(f"UPDATE store SET value = value || 'x' WHERE name = '{name}'"))
                    await asyncio.sleep(0.2)

            await hold.core.database.write(work, alone=False)

        await asyncio.gather(lock(one, "ab"), lock(two, "ba"))
        assert len(ran) > 2
        async with one.core.database.read() as connection:
            found = (await connection.execute(text("SELECT value FROM store WHERE length(name) = 1"))).scalars().all()
        assert list(found) == ["0xx", "0xx"]


@pytest.mark.sqlite
async def test_text_with_nul_is_kept(far: Settings, city: Any, acceptance: Make) -> None:
    """What a stranger wrote may hold a NUL, which PostgreSQL's text cannot: it is no reason to refuse mail."""
    async with nodes(far, city, 1) as (hold,):
        await hold.accept(acceptance("T1", reverse_path="a\0b@city.example"))
        assert (await hold.list())[0].message.reverse_path == "a\ufffdb@city.example"


@pytest.mark.sqlite
async def test_the_password_is_never_printed(
    cluster: Cluster, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong or right, in a file or the environment: no error and no representation holds it."""
    secret = "hunter2-very-secret"
    with pytest.raises(ValidationError, match="must not hold the password") as refused:
        StoreSettings.model_validate({"database": f"postgresql://u:{secret}@127.0.0.1/x"})
    assert all(secret not in str(one["msg"]) for one in refused.value.errors())
    file = tmp_path / "password"
    file.write_text(f"{secret}\n")
    own = settings.store.model_copy(update={"database": cluster.url("nosuchbase"), "password_file": file})
    found = place(own)
    assert isinstance(found, Server)
    assert found.password == secret
    assert secret not in repr(found)
    with pytest.raises(StoreError, match="nosuchbase") as caught:
        await open_database(own)
    assert secret not in str(caught.value)
    monkeypatch.setenv("CIVICGATE_DATABASE_PASSWORD", secret)
    found = place(own.model_copy(update={"password_file": None}))
    assert isinstance(found, Server)
    assert found.password == secret
    with pytest.raises(StoreError, match="password cannot be read"):
        place(own.model_copy(update={"password_file": tmp_path / "none"}))


@pytest.mark.sqlite
async def test_errors_hold_no_values(far: Settings, city: Any, acceptance: Make) -> None:
    """A statement that fails is logged without what was to be stored: it may be somebody's mail."""
    async with nodes(far, city, 1) as (hold,):
        await hold.accept(acceptance("T1"))
        with pytest.raises(StoreError) as caught:
            await hold.accept(acceptance("T1", subject="Redundancies"))
        assert "Redundancies" not in str(caught.value)
        assert "alice@city.example" not in str(caught.value)


@pytest.mark.sqlite
async def test_copied_from_sqlite(settings: Settings, far: Settings, city: Any, acceptance: Make, sink: Any) -> None:
    """Every row is there, in use at once; the old file names its successor and takes no more mail."""
    old = await open_hold(settings, city)
    for number in range(3):
        await old.accept(acceptance(f"T{number}"))
    await old.desk.approve(Order("T0-h1", DORA))
    chain, target = await old.verify_events(), await Database.open(place(far.store))
    counts = await copy(old.core.database, target)
    assert (counts["held"], counts["event"]) == (3, chain[0])
    await target.close()
    await old.close()
    with pytest.raises(StoreError, match="was copied to postgresql:"):
        await open_hold(settings, city)
    async with nodes(far, city, 1) as (hold,):
        assert await hold.verify_events() == chain
        await hold.desk.approve(Order("T0-h1", CARL))
        await hold.accept(acceptance("T3"))
        await Outbox(hold, sink, far.outbox).drain()
        assert (await hold.desk.read("T0-h1")).item.state is State.RELEASED
        again = await open_database(settings.store.model_copy(update={"directory": settings.store.directory / "new"}))
        with pytest.raises(OperatorError, match="not empty"):
            await copy(again, hold.core.database)
        await again.close()


@pytest.mark.sqlite
async def test_a_gateway_that_was_not_stopped_accepts_nothing_after_the_copy(
    settings: Settings, far: Settings, city: Any, acceptance: Make, sink: Any
) -> None:
    """Regression: it went on in the old file, said 250, and what it had accepted was in no store that anybody opens."""
    running = await open_hold(settings, city)
    await running.accept(acceptance("T1", outgoing=()))
    target = await Database.open(place(far.store))
    await copy(running.core.database, target)
    await target.close()
    with pytest.raises(StoreError, match="was copied to postgresql://"):
        await running.accept(acceptance("T2"))
    with pytest.raises(StoreError, match="was copied"):
        await running.desk.approve(Order("T1-h1", DORA))
    with pytest.raises(StoreError, match="was copied"):
        await Outbox(running, sink, settings.outbox).claim()
    assert sink.got == []
    await running.close()
    new = await open_hold(far, city)
    assert [item.id for item in await new.list()] == ["T1-h1"]
    await new.close()


@pytest.mark.sqlite
async def test_bodies_of_another_database_stop_the_start(
    settings: Settings, far: Settings, city: Any, acceptance: Make, tmp_path: Path
) -> None:
    """A new database beside old bodies would sweep them; an empty folder beside old rows would call them lost."""
    hold = await open_hold(settings, city)
    await hold.accept(acceptance("T1"))
    await hold.close()
    with pytest.raises(StoreError, match=r"another database|names none of them"):
        await open_store(far.store)
    away = settings.store.model_copy(update={"directory": tmp_path / "away"})
    database, _ = await open_store(away)
    await database.close()
    (settings.store.directory / "bodies").rename(tmp_path / "elsewhere")
    (settings.store.directory / "bodies.sealed-for").unlink()
    with pytest.raises(StoreError, match="does not hold the bodies"):
        await open_store(settings.store)

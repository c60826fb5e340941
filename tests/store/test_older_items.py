"""Items that an earlier version held: their approvers can decide, lists and searches find them."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, insert, text
from sqlalchemy.pool import NullPool

from gateway.hold import Acceptance, Hold, State, open_hold
from gateway.hold.decide import Order
from gateway.hold.listing import Wanted
from gateway.settings import Settings
from gateway.store.schema import MIGRATIONS
from gateway.store.tables import held, message

pytestmark = pytest.mark.sqlite
OLD = (
    *("id", "message", "state", "queue", "round", "recipients", "orders", "transforms", "matches", "audience"),
    *("created", "changed", "expires"),
)


async def test_items_from_before_the_migration(
    settings: Settings, hold: Hold, acceptance: Callable[..., Acceptance], city: Any, clock: Any, tmp_path: Any
) -> None:
    """A held item and one that a hand has spoiled, of the schema of before: the first is found, decided and sent on."""
    await hold.accept(acceptance(reverse_path="Alice+x@City.example", outgoing=()))
    async with hold.core.database.read() as connection:
        item = dict((await connection.execute(held.select())).mappings().one())
        mail = dict((await connection.execute(message.select().where(message.c.id == "T1"))).mappings().one())
    orders = [{key: order[key] for key in ("rule", "queue", "roles", "expires_after", "reason", "tell_sender")}
              for order in json.loads(item["orders"])]  # fmt: skip
    old = {name: item[name] for name in OLD} | {"orders": json.dumps(orders)}
    other = settings.model_copy(update={"store": settings.store.model_copy(update={"directory": tmp_path / "old"})})
    (tmp_path / "old").mkdir()
    engine = create_engine(f"sqlite:///{tmp_path / 'old' / 'store.db'}", poolclass=NullPool)
    with engine.begin() as before:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = before
        command.upgrade(config, "0002")
        before.execute(insert(message), [mail | {"body": ""}])
        for row in (old, old | {"id": "T1-h2", "orders": "spoiled"}):
            names = ", ".join(OLD)
            values = dict(row)
            for name in ("created", "changed", "expires"):
                values[name] = int(values[name].timestamp() * 1_000_000)
            before.execute(text(f"INSERT INTO held ({names}) VALUES ({', '.join(':' + name for name in OLD)})"), values)
    engine.dispose()
    found = await open_hold(other, city, clock=clock)
    try:
        reading = await found.desk.read("T1-h1")
        assert (reading.item.asked, reading.item.version) == (clock(), 1)
        for wanted in (
            Wanted(text="alice+x@city.example"),
            Wanted(sent_by="alice@city.example"),
            Wanted(subject="picnic"),
        ):
            assert await found.listing.count(wanted) == 2, wanted
        assert await found.listing.count(Wanted(rule="city-wide")) == 1
        await found.desk.approve(Order("T1-h1", "dora@city.example"))
        clock.move(hours=49)
        assert (await found.desk.read("T1-h1")).item.state is State.HELD
        assert clock() - reading.item.expires == timedelta(hours=1)
    finally:
        await found.close()

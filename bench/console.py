"""How long the console's pages take over HTTP with 100 and with 10,000 held items, beside each other.

    python -m bench.console [--items 10000] [--requests 30]

Medians and 95th percentiles of one visitor after the other, as a browser sees them, with the look-up of the session.
Refuses to measure anything but a store of its own in a temporary folder.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import httpx2
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.tables import event, held, message
from tests.browser.town import CABLE, HERALD, MANAGER, Town, town

PAGES = (
    ("what waits for me", HERALD, "/"),
    ("list, first page", CABLE, "/held"),
    ("list, largest first", CABLE, "/held?sort=-size"),
    ("list, what waits for me", HERALD, "/held?mine=1"),
    ("search, an address", CABLE, "/held?q=sender7@vendor.example"),
    ("search, nothing found", CABLE, "/held?q=nowhere@nothing.example"),
    ("search, subjects", HERALD, "/held?within=subject&q=notice+77"),
    ("my messages", MANAGER, "/mine"),
    ("system", CABLE, "/system"),
)


async def fill(city: Town, count: int) -> None:
    """Held items: one taken in the regular way, the others its copies with other ids, times, senders and sizes."""
    first = await city.keep("Notice 0", sender="sender0@vendor.example")
    second = await city.keep("Program 0", sender="sender0@vendor.example", rule="executable-attachments", to=(MANAGER,))

    async def work(connection: AsyncConnection) -> None:
        for ident in (first, second):
            item = dict((await connection.execute(select(held).where(held.c.id == ident))).mappings().one())
            facts = dict(
                (await connection.execute(select(message).where(message.c.id == item["message"]))).mappings().one()
            )
            begun = dict(
                (await connection.execute(select(event).where(event.c.item == ident))).mappings().first() or {}
            )
            assert begun
            rows = [_copy(item, facts, ident, n) for n in range(1, count // 2)]
            for start in range(0, len(rows), 500):
                await connection.execute(insert(message), [facts for facts, _ in rows[start : start + 500]])
                await connection.execute(insert(held), [item for _, item in rows[start : start + 500]])

    await city.hold.core.database.write(work)


def _copy(
    item: dict[str, object], facts: dict[str, object], ident: str, n: int
) -> tuple[dict[str, object], dict[str, object]]:
    name, sender = f"{ident[:-3]}-{n:05d}", f"sender{n % 100}@vendor.example"
    later, subject = timedelta(seconds=n), f"Notice {n}"
    created, expires = item["created"], item["expires"]
    size = 1000 + n * 37 % 100_000
    facts = facts | {"id": name, "reverse_path": sender, "subject": subject, "size": size, "message_id": f"<{name}@x>"}
    item = item | {
        "id": f"{name}-h1", "message": name, "created": created + later, "changed": created + later,  # type: ignore[operator]
        "expires": expires + later, "sender": sender, "size": size, "subject": subject.lower(),  # type: ignore[operator]
        "search": f"{name}-h1 {sender} everyone@city.example <{name}@x>",
    }  # fmt: skip
    return facts, item


async def measure(count: int, requests: int) -> dict[str, tuple[float, float]]:
    """Milliseconds by page: median and 95th percentile."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        async with town(Path(folder)) as city:
            await fill(city, count)
            for name, person, path in PAGES:
                cookies = {"civicgate": await city.cookie(person)}
                async with httpx2.AsyncClient(base_url=city.url, cookies=cookies, timeout=60) as http:
                    taken = [await _timed(http, path) for _ in range(requests + 2)][2:]
                found[name] = (statistics.median(taken), statistics.quantiles(taken, n=20)[-1])
    return found


async def _timed(http: httpx2.AsyncClient, path: str) -> float:
    begun = time.perf_counter()
    got = await http.get(path)
    assert got.status_code == 200, (path, got.status_code)
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=30)
    asked = parser.parse_args()
    few, many = (asyncio.run(measure(count, asked.requests)) for count in (100, asked.items))
    print(f"| page | 100 items, median | p95 | {asked.items:,} items, median | p95 |")
    print("| --- | --- | --- | --- | --- |")
    for name, _, _ in PAGES:
        numbers = (*few[name], *many[name])
        print(f"| {name} | " + " | ".join(f"{number:.0f} ms" for number in numbers) + " |")


if __name__ == "__main__":
    main()

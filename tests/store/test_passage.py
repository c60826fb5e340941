"""The mark by which a mail server that asks us lets our own copies pass."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.hold.marks import Claim
from gateway.hold.passage import FIELD, GOOD_FOR
from gateway.hold.store import Hold
from tests.store.conftest import Clock

CONTENT = b"Subject: hello\r\n\r\nwords\r\n"
TRACE = b"Received: from a by b;\r\n\tThu, 1 Jan 2026 00:00:00 +0000\r\n"
SENDER, TO = "clerk@city.example", ("a@elsewhere.example", "B@elsewhere.example")


async def claim(hold: Hold, content: bytes = CONTENT, above: bytes = TRACE) -> Claim:
    """A message with a fresh mark, as it comes back."""
    name, value = await hold.passages.field(SENDER, TO, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert name == FIELD
    whole = above + f"{name}: {value}\r\n".encode() + content

    async def digest(count: int) -> str:
        return hashlib.sha256(whole[-count:]).hexdigest()

    return Claim(value, SENDER, TO, len(whole), lambda count: whole[:count], digest)


async def test_it_is_good_once(hold: Hold) -> None:
    """The second time it is anybody's header field."""
    one = await claim(hold)
    assert await hold.passages.use(one)
    assert not await hold.passages.use(one)
    assert await hold.passages.use(await claim(hold))


@pytest.mark.parametrize(
    "change",
    [
        {"recipients": ("c@elsewhere.example",)},
        {"recipients": TO[:1]},
        {"reverse_path": "other@city.example"},
        {"value": "nonsense"},
        {"value": ""},
    ],
    ids=["others", "fewer", "another-sender", "nonsense", "empty"],
)
async def test_it_is_good_for_what_it_says(hold: Hold, change: dict[str, object]) -> None:
    """Sender and recipients are part of it; letters' case is not."""
    one = await claim(hold)
    assert not await hold.passages.use(replace(one, **change))  # type: ignore[arg-type]
    assert await hold.passages.use(replace(one, recipients=tuple(address.lower() for address in TO)))


async def test_another_content_is_judged(hold: Hold) -> None:
    """Neither another body nor a field put on top, that is no trace, goes under our mark."""
    assert not await hold.passages.use(await claim(hold, CONTENT.replace(b"words", b"WORDS")))
    assert not await hold.passages.use(await claim(hold, above=TRACE + b"Subject: another\r\n"))


async def test_it_grows_old(hold: Hold, clock: Clock) -> None:
    """An hour later it proves nothing."""
    one = await claim(hold)
    clock.now += GOOD_FOR + timedelta(seconds=1)
    assert not await hold.passages.use(one)

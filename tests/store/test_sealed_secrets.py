"""Secrets in the database are sealed with the store's key: second factors, and what release marks are made with."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.accounts import Accounts, totp
from gateway.accounts.core import digest
from gateway.errors import StoreError
from gateway.hold import Acceptance, Hold
from gateway.hold.decide import Order
from gateway.hold.marks import Claim
from gateway.settings import ConsoleSettings, Settings
from gateway.store.database import Database
from gateway.store.events import Actor
from gateway.store.opening import open_store, place
from gateway.store.rotation import Rotation
from gateway.store.sealing import PREFIX, Seal, totp_of

CLERK, CARL = "clerk@city.example", "carl@city.example"
SECRET = totp.from_digest(digest("something"))


@pytest.fixture
def accounts(hold: Hold, clock: Any) -> Accounts:
    """Accounts in the same store."""
    return Accounts(hold.core.database, ConsoleSettings(), clock, Seal(hold.core.bodies))


def code(clock: Any) -> str:
    """What the person's app shows."""
    return totp.code_at(SECRET, totp.step_at(clock()))


async def enrolled(accounts: Accounts, clock: Any, address: str = CLERK) -> None:
    """An account with a second factor."""
    await accounts.people.add(address, Actor("test"))
    await accounts.people.enrol(address, SECRET, code(clock), Actor("test"))


async def fits(accounts: Accounts, clock: Any, address: str = CLERK) -> bool:
    """Whether the next code is taken."""
    clock.move(seconds=60)
    return await accounts.core.database.write(lambda c: accounts.people.use_code(c, address, code(clock)))


async def test_a_second_factor_does_not_lie_readable(accounts: Accounts, clock: Any, by_hand: Any) -> None:
    """Regression: who read the database could make everybody's codes. Sealed it works, for its own account only."""
    await enrolled(accounts, clock)
    ((kept,),) = (await by_hand("SELECT totp FROM account"))[0]
    assert kept.startswith(PREFIX)
    assert SECRET not in kept
    assert await fits(accounts, clock)
    await enrolled(accounts, clock, CARL)
    await by_hand(f"UPDATE account SET totp = '{kept}' WHERE address = '{CARL}'")
    with pytest.raises(StoreError, match="something else"):
        await fits(accounts, clock, CARL)


async def test_what_an_older_version_left_is_sealed_at_the_next_start(
    hold: Hold, accounts: Accounts, clock: Any, by_hand: Any, settings: Settings
) -> None:
    """Readable secrets of an older store are sealed when it is opened, and go on working before and after."""
    await enrolled(accounts, clock)
    await hold.prover._marks._shared()
    ((sealed,),) = (await by_hand("SELECT value FROM secret"))[0]
    key = Seal(hold.core.bodies).open(sealed, "secret:release-proof")
    await by_hand(f"UPDATE account SET totp = '{SECRET}'", f"UPDATE secret SET value = '{key}'")
    assert await fits(accounts, clock)
    database, _ = await open_store(settings.store)
    await database.close()
    rows = await by_hand("SELECT totp FROM account", "SELECT value FROM secret")
    assert all(found[0][0].startswith(PREFIX) for found in rows)
    assert await fits(accounts, clock)
    assert (await hold.prover._marks._shared()).hex() == key


async def test_a_change_of_keys_seals_them_anew(
    hold: Hold, accounts: Accounts, clock: Any, by_hand: Any, settings: Settings
) -> None:
    """After «rotate-key» and «--drop-old» the old key opens none of them, and they work with the new one alone."""
    await enrolled(accounts, clock)
    await hold.prover._marks._shared()
    bodies = hold.core.bodies
    (old,) = bodies.keys.identities().values()
    rotation = Rotation(hold.core.database, bodies)
    assert (await rotation.rotate()).damaged == ()
    assert await fits(accounts, clock)
    await rotation.drop(at_once=True)
    assert old not in bodies.keys.identities().values()
    ((kept,),) = (await by_hand("SELECT totp FROM account"))[0]
    assert not Seal(bodies).opens(kept, totp_of(CLERK), old)
    assert await fits(accounts, clock)
    assert await hold.prover._marks._shared()


async def test_without_the_key_nobody_gets_in_and_nothing_breaks(
    settings: Settings, accounts: Accounts, clock: Any
) -> None:
    """Commands open no key: they list and reset accounts, and cannot ask for a code."""
    await enrolled(accounts, clock)
    database = await Database.open(place(settings.store))
    keyless = Accounts(database, ConsoleSettings(), clock)
    assert (await keyless.people.get(CLERK)).has_totp
    with pytest.raises(StoreError, match="key"):
        await fits(keyless, clock)
    assert not (await keyless.people.reset_totp(CLERK, Actor("test"))).has_totp
    await database.close()


async def test_a_mark_is_good_across_the_change(hold: Hold, acceptance: Callable[..., Acceptance]) -> None:
    """A release marked before the change of keys is known again after it: the secret is the same."""
    await hold.accept(acceptance(outgoing=()))
    for person in ("dora@city.example", CARL):
        await hold.desk.approve(Order("T1-h1", person))
    _, value = await hold.prover.field("T1-h1", 3, digest("abc"))
    await Rotation(hold.core.database, hold.core.bodies).rotate()
    hold.prover._marks._key = None

    async def of(_: int) -> str:
        return digest("abc")

    claim = Claim(value, "alice@city.example", ("all@city.example",), 3 + 13, lambda n: b"Received: x\r\n"[:n], of)
    assert await hold.prover.rules(claim) == {"city-wide"}

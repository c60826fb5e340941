"""Every page of the console, who looks at it, and where it is. A test compares it with the routes."""

from dataclasses import dataclass

from gateway.hold.links import Purpose
from tests.browser.town import CABLE, CLERK, GARDENER, HERALD, MANAGER, Town, accounts_of


@dataclass(frozen=True)
class Place:
    """One page as somebody sees it."""

    route: str
    path: str
    person: str


async def pages_of(city: Town) -> dict[str, Place]:
    """All of them, on a morning's mail."""
    ids = await city.populate()
    await accounts_of(city)
    item = "/items/{item}"
    return {
        "waiting": Place("/", "/", MANAGER),
        "waiting-none": Place("/", "/", "attorney@city.example"),
        "held": Place("/held", "/held", HERALD),
        "held-admin": Place("/held", "/held?state=all", CABLE),
        "held-nothing": Place("/held", "/held?q=nobody", HERALD),
        "item": Place(item, f"/items/{ids['festival']}", MANAGER),
        "item-half": Place(item, f"/items/{ids['half']}", MANAGER),
        "item-program": Place(item, f"/items/{ids['program']}", CABLE),
        "item-sealed": Place(item, f"/items/{ids['festival']}", CABLE),
        "item-own": Place(item, f"/items/{ids['mine']}", GARDENER),
        "item-past": Place(item, f"/items/{ids['gone']}", CLERK),
        "history": Place("/items/{item}/history", f"/items/{ids['half']}/history", HERALD),
        "html": Place("/items/{item}/html", f"/items/{ids['festival']}/html", MANAGER),
        "mine": Place("/mine", "/mine", CLERK),
        "mine-none": Place("/mine", "/mine", "mayor@city.example"),
        "exceptions": Place("/exceptions", "/exceptions", CABLE),
        "exceptions-read": Place("/exceptions", "/exceptions?all=1", GARDENER),
        "lists": Place("/lists", "/lists?sender=gardener@city.example", HERALD),
        "rules": Place("/rules", "/rules", HERALD),
        "rule": Place("/rules/{rule}", "/rules/all-city-approval", HERALD),
        "system": Place("/system", "/system", CABLE),
        "attesting": Place(item, f"/items/{ids['unsure']}", GARDENER),
        "decide": Place("/decide/{token}", f"/decide/{await city.link(ids['festival'], HERALD)}?choice=reject", ""),
        "attest": Place("/decide/{token}", f"/decide/{await city.link(ids['unsure'], GARDENER, Purpose.ATTEST)}", ""),
        "account": Place("/account", "/account", MANAGER),
        "password": Place("/account/password", "/account/password", MANAGER),
        "totp": Place("/account/totp", "/account/totp", MANAGER),
        "token": Place("/account/tokens", "/account/tokens", MANAGER),
        "account-full": Place("/account", "/account", CABLE),
        "recovery": Place("/account/recovery", "/account/recovery", CABLE),
        "totp-off": Place("/account/totp/off", "/account/totp/off", CABLE),
        "totp-new": Place("/account/totp", "/account/totp?new=1", CABLE),
        "accounts": Place("/accounts", "/accounts", CABLE),
        "person": Place("/accounts/{address:path}", f"/accounts/{HERALD}", CABLE),
        "person-own": Place("/accounts/{address:path}", f"/accounts/{CABLE}", CABLE),
        "person-provider": Place("/accounts/{address:path}", f"/accounts/{GARDENER}", CABLE),
        "not-found": Place("", "/items/nothing-like-it", MANAGER),
        "login": Place("/login", "/login", ""),
    }

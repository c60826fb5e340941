"""Logging in, being logged in, logging out: over real HTTP, as a browser does it and as an attacker does."""

import asyncio
import re
from pathlib import Path

import pytest

from gateway.accounts import Method, Visit, passwords, totp
from gateway.accounts.core import digest
from tests.unit.console.serving import (
    CLERK,
    DORA,
    IDA,
    OTHER_PASSWORD,
    PASSWORD,
    TESTER,
    Browser,
    Served,
    csrf_of,
    serving,
)


def _code(secret: str, served: Served) -> str:
    return totp.code_at(secret, totp.step_at(served.clock()))


async def _enrol(browser: Browser, served: Served) -> tuple[str, list[str]]:
    """Set up a second factor through the page; its secret and the recovery codes."""
    page = (await browser.get("/account/totp")).text
    secret = re.search(r"<code>([A-Z2-7 ]{39})</code>", page)
    assert secret is not None
    plain = secret[1].replace(" ", "")
    done = await browser.submit("/account/totp", code=_code(plain, served), password=PASSWORD)
    assert done.status_code == 200
    return plain, re.findall(r"<code>([a-z2-7]{4}(?:-[a-z2-7]{4}){3})</code>", done.text)


async def test_password_lets_in_and_logout_lets_out(served: Served) -> None:
    """The page asked for comes after login; after logout the cookie that was kept opens nothing."""
    await served.account()
    async with served.browser() as browser:
        asked = await browser.get("/account")
        assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2Faccount")
        done = await browser.log_in(CLERK, next="/account")
        assert (done.status_code, done.headers["location"]) == (303, "/account")
        page = await browser.get("/account")
        assert (page.status_code, "Chris Clerk" in page.text) == (200, True)
        kept = browser.cookies["civicgate"]
        out = await browser.submit("/logout", "/account")
        assert out.headers["location"] == "/login?said=out"
        assert "civicgate" not in browser.cookies
    async with served.browser(cookies={"civicgate": kept}) as thief:
        assert (await thief.get("/account")).status_code == 303
    assert await served.events(CLERK) == ["account-added", "password-set", "logged-in", "logged-out"]


async def test_an_alias_is_the_same_account(served: Served) -> None:
    """Whoever types another address of the directory for the same person logs in as that person."""
    await served.account()
    async with served.browser() as browser:
        assert (await browser.log_in("C.Clerk@CITY.example")).status_code == 303
        assert CLERK in (await browser.get("/account")).text


async def test_wrong_login_says_the_same_whatever_was_wrong(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer and, so that time tells nothing either, one comparison of a hash each."""
    await served.account()
    await served.account(DORA)
    await served.accounts.people.disable(DORA, TESTER)
    compared: list[str] = []
    real = passwords._verify

    def counted(kept: str, password: str) -> bool:
        compared.append(kept)
        return real(kept, password)

    monkeypatch.setattr(passwords, "_verify", counted)
    async with served.browser() as browser:
        for address in (CLERK, "nobody@city.example", DORA, "", "x" * 5000, "a\0b@c"):
            compared.clear()
            answer = await browser.log_in(address, PASSWORD if address == DORA else "wrong password, surely")
            assert answer.status_code == 403
            assert "Address and password do not fit together" in answer.text
            assert len(compared) == 1
            assert compared[0].startswith("$argon2id$")


async def test_password_is_compared_as_it_was_meant(served: Served) -> None:
    """An é typed as one character or as two is one password (NFKC)."""
    await served.account(password="caf\u00e9 au lait s'il vous pla\u00eet")
    async with served.browser() as browser:
        assert (await browser.log_in(CLERK, "cafe\u0301 au lait s'il vous plai\u0302t")).status_code == 303


async def test_login_gives_a_new_secret_and_forgets_the_old(served: Served) -> None:
    """Session fixation: what somebody planted before the login, ours or invented, opens nothing after it."""
    await served.account()
    await served.account(DORA)
    async with served.browser() as attacker, served.browser() as victim:
        await attacker.log_in(DORA)
        planted = attacker.cookies["civicgate"]
        invented = "A" * 43
        for value in (invented, planted):
            victim.cookies.clear()
            victim.cookies.set("civicgate", value, domain="127.0.0.1", path="/")
            victim.cookies.set("civicgate-visit", "V" * 43, domain="127.0.0.1", path="/")
            if value == planted:
                await victim.submit("/logout", "/account")
            await victim.log_in(CLERK)
            assert victim.cookies["civicgate"] not in (invented, planted)
            assert CLERK in (await victim.get("/account")).text
        assert (await attacker.get("/account")).status_code == 303, "the planted session ended with the victim's logout"


async def test_login_over_a_session_ends_that_session(served: Served) -> None:
    """A login form sent from a browser that has a session (kept open elsewhere) replaces it."""
    await served.account()
    await served.account(DORA)
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        old = browser.cookies["civicgate"]
        token = csrf_of((await browser.get("/account")).text)
        await browser.post("/login", data={"csrf": token, "address": DORA, "password": PASSWORD})
        assert DORA in (await browser.get("/account")).text
        assert await served.accounts.sessions.find(old) is None


async def test_a_forged_session_is_nobody(served: Served) -> None:
    """What we did not give out is worth nothing, and breaks nothing."""
    async with served.browser() as browser:
        for cookie in ("", "x", "A" * 43, "A" * 10_000, "../../etc/passwd", "' or 1=1 --", "%00" * 14 + "A"):
            answer = await browser.get("/account", headers={"cookie": f"civicgate={cookie}"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Faccount"), cookie


async def test_the_database_holds_no_secret_that_opens_anything(served: Served) -> None:
    """Session, token, setup link and password are digests in the file; the cookie's value is not in it."""
    await served.account()
    link, _ = await served.accounts.people.make_link(CLERK, TESTER)
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        secret = browser.cookies["civicgate"]
        assert len(secret) == 43, "256 bits"
        octets = b"".join(path.read_bytes() for path in served.services.settings.store.directory.glob("store.db*"))
        assert secret.encode() not in octets
        assert link.encode() not in octets
        assert PASSWORD.encode() not in octets
        assert digest(secret).encode() in octets


async def test_a_session_ends_when_idle_and_when_old(served: Served) -> None:
    """30 min without a click, or 12 h with clicks; the next request is sent to the login page."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        served.clock.move(minutes=29)
        assert (await browser.get("/account")).status_code == 200
        served.clock.move(minutes=29)
        assert (await browser.get("/account")).status_code == 200, "a click keeps it"
        served.clock.move(minutes=31)
        assert (await browser.get("/account")).status_code == 303
        await browser.log_in(CLERK)
        for _ in range(25):
            served.clock.move(minutes=29)
            answer = await browser.get("/account")
        assert answer.status_code == 303, "12 h are over, whatever is clicked"


async def test_disabling_ends_sessions_at_once(served: Served) -> None:
    """The next click of a disabled person is a stranger's; enabling brings no session back."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        await served.accounts.people.disable(CLERK, TESTER)
        assert (await browser.get("/account")).status_code == 303
        await served.accounts.people.enable(CLERK, TESTER)
        assert (await browser.get("/account")).status_code == 303
        assert (await browser.log_in(CLERK)).status_code == 303


async def test_password_change_ends_other_sessions_and_rotates_this_one(served: Served) -> None:
    """It needs the old password; afterwards only this browser is in, under a new secret."""
    await served.account()
    async with served.browser() as here, served.browser() as elsewhere:
        await here.log_in(CLERK)
        await elsewhere.log_in(CLERK)
        before = here.cookies["civicgate"]
        change = {"password": OTHER_PASSWORD, "again": OTHER_PASSWORD}
        assert (await here.submit("/account/password", old="not my password", **change)).status_code == 403
        assert (
            await here.submit("/account/password", old=PASSWORD, password="short", again="short")
        ).status_code == 400
        assert (await here.submit("/account/password", old=PASSWORD, **change)).status_code == 303
        assert here.cookies["civicgate"] != before
        assert (await here.get("/account")).status_code == 200
        assert (await elsewhere.get("/account")).status_code == 303
        assert await served.accounts.sessions.find(before) is None
        assert (await elsewhere.log_in(CLERK)).status_code == 403
        assert (await elsewhere.log_in(CLERK, OTHER_PASSWORD)).status_code == 303
    assert (await served.events(CLERK)).count("logged-in") == 3, "a new secret is no login"


async def test_my_sessions_are_shown_and_ended_and_only_mine(served: Served) -> None:
    """The page lists them by browser; ending one ends it; another person's id is «not found» and lives on."""
    await served.account()
    await served.account(DORA)
    async with served.browser() as here, served.browser() as elsewhere, served.browser() as dora:
        await here.log_in(CLERK)
        await elsewhere.get("/login", headers={"user-agent": "Phone"})
        elsewhere.headers["user-agent"] = "Phone/1.0 <b>"
        await elsewhere.log_in(CLERK)
        await dora.log_in(DORA)
        page = (await here.get("/account")).text
        assert "Phone/1.0 &lt;b&gt;" in page
        ids = {session.agent[:5]: session.id for session in await served.accounts.sessions.list(CLERK)}
        (dora_session,) = await served.accounts.sessions.list(DORA)
        other = await here.submit("/account/sessions/end", "/account", session=dora_session.id)
        assert other.status_code == 404
        assert (await dora.get("/account")).status_code == 200
        await here.submit("/account/sessions/end", "/account", session=ids["Phone"])
        assert (await elsewhere.get("/account")).status_code == 303
        await elsewhere.log_in(CLERK)
        await here.submit("/account/sessions/end-others", "/account")
        assert (await elsewhere.get("/account")).status_code == 303
        assert (await here.get("/account")).status_code == 200


async def test_second_factor_from_set_up_to_recovery(served: Served) -> None:
    """QR as an own picture; the first code proves it; then password and code; codes of either kind work once."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        picture = await browser.get("/account/totp/picture.svg")
        assert picture.headers["content-type"] == "image/svg+xml"
        assert picture.text.startswith("<?xml")
        assert "<script" not in picture.text
        wrong = await browser.submit("/account/totp", code="000000x", password=PASSWORD)
        assert (wrong.status_code, "The code is not right" in wrong.text) == (400, True)
        before = browser.cookies["civicgate"]
        secret, recovery = await _enrol(browser, served)
        assert len(set(recovery)) == 10
        assert browser.cookies["civicgate"] != before
        again = await browser.get("/account/totp/picture.svg")
        assert again.text != picture.text, "the secret is never shown again"
    async with served.browser() as browser:
        served.clock.move(seconds=30)
        half = await browser.log_in(CLERK, next="/account")
        assert half.headers["location"] == "/login/code?next=%2Faccount"
        assert (await browser.get("/account")).status_code == 303, "half a login opens nothing"
        assert (await browser.get("/account/totp")).status_code == 403
        assert (await browser.submit("/login/code", code="123456")).status_code == 403
        first = browser.cookies["civicgate"]
        used = _code(secret, served)
        done = await browser.submit("/login/code", code=f"{used[:3]} {used[3:]}", next="/account")
        assert (done.status_code, done.headers["location"]) == (303, "/account")
        assert browser.cookies["civicgate"] != first
        assert (await browser.get("/account")).status_code == 200
        assert await served.accounts.sessions.find(first) is None
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        assert (await browser.submit("/login/code", code=used)).status_code == 403, "the same code again"
        assert (await browser.submit("/login/code", code=recovery[3].upper())).status_code == 303
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        assert (await browser.submit("/login/code", code=recovery[3])).status_code == 403, "used up"
    assert "recovery-code-used" in await served.events(CLERK)


async def test_second_factor_codes_are_throttled(served: Served) -> None:
    """Who knows the password may not try a million codes: after five, waits; logging in anew does not help."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        secret, _ = await _enrol(browser, served)
    served.clock.move(minutes=5)
    async with served.browser() as browser:
        for _ in range(5):
            browser.cookies.clear()
            await browser.log_in(CLERK)
            assert (await browser.submit("/login/code", code="000000")).status_code == 403
        browser.cookies.clear()
        await browser.log_in(CLERK)
        assert (await browser.submit("/login/code", code=_code(secret, served))).status_code == 429
        served.clock.move(minutes=1)
        assert (await browser.submit("/login/code", code=_code(secret, served))).status_code == 303


async def test_taking_the_second_factor_away_needs_the_password(served: Served) -> None:
    """With it, all sessions end and the next login needs the password alone."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        await _enrol(browser, served)
        assert (await browser.submit("/account/totp/off", password="wrong, surely")).status_code == 403
        assert (await browser.submit("/account/totp/off", password=PASSWORD)).status_code == 303
        assert (await browser.get("/account")).status_code == 303
        assert (await browser.log_in(CLERK)).headers["location"] == "/"


async def test_a_role_that_needs_a_second_factor_gets_no_further_without(tmp_path: Path, fresh_store: Path) -> None:
    """console.totp_roles: the holder is led to set it up, sees nothing else before; others are not asked."""
    async with serving(tmp_path, fresh_store, totp_roles=["it-director"]) as served:
        await served.account(IDA)
        await served.account(CLERK)
        async with served.browser() as browser:
            assert (await browser.log_in(IDA)).headers["location"] == "/account/totp"
            for path in ("/", "/account", "/account/password"):
                assert (await browser.get(path)).status_code == 303
            await _enrol(browser, served)
            assert (await browser.get("/account")).status_code == 200
        async with served.browser() as browser:
            assert (await browser.log_in(CLERK)).headers["location"] == "/"


async def test_password_is_throttled_for_an_account_and_the_wait_doubles(served: Served) -> None:
    """Five tries; then even the right password waits, 1 s, 2 s, 4 s …; a success forgets all of it."""
    await served.account()
    async with served.browser() as browser:
        for _ in range(5):
            assert (await browser.log_in(CLERK, "wrong, surely")).status_code == 403
        waits = []
        for _ in range(3):
            refused = await browser.log_in(CLERK)
            assert refused.status_code == 429
            assert "Too many attempts" in refused.text
            waits.append(int(refused.headers["retry-after"]))
            served.clock.move(seconds=waits[-1])
            await browser.log_in(CLERK, "wrong, surely")
        assert waits == [2, 3, 5], "1, 2 and 4 s, and one more to be sure"
        served.clock.move(seconds=60)
        assert (await browser.log_in(CLERK)).status_code == 303
        browser.cookies.clear()
        assert (await browser.log_in(CLERK, "wrong, surely")).status_code == 403


async def test_a_burst_at_one_instant_is_counted_whole(served: Served) -> None:
    """Thirty attempts at the same time: five are looked at, the others are refused unseen."""
    await served.account()
    async with served.browser() as browser:
        token = await browser.token("/login")
        form = {"csrf": token, "address": CLERK, "password": "wrong, surely"}
        answers = await asyncio.gather(*(browser.post("/login", data=form) for _ in range(30)))
        assert sorted(answer.status_code for answer in answers) == [403] * 5 + [429] * 25


async def test_a_machine_is_throttled_over_many_accounts(served: Served) -> None:
    """One password tried on many accounts: after fifty, the machine waits, and other machines do not."""
    await served.account()
    async with served.browser(headers={"x-forwarded-for": "192.0.2.7"}) as browser:
        token = await browser.token("/login")
        for number in range(50):
            form = {"csrf": token, "address": f"p{number}@city.example", "password": "Summer in the city"}
            assert (await browser.post("/login", data=form)).status_code == 403
        assert (await browser.log_in(CLERK)).status_code == 429
    async with served.browser(headers={"x-forwarded-for": "192.0.2.8"}) as browser:
        assert (await browser.log_in(CLERK)).status_code == 303


async def test_own_logins_do_not_reset_a_machine_s_count(served: Served) -> None:
    """Who has an account cannot log in now and then to try the accounts of others for ever."""
    await served.account(DORA)
    async with served.browser() as browser:
        codes = []
        for number in range(52):
            codes.append((await browser.log_in(f"p{number}@city.example", "Summer in the city")).status_code)
            if number % 4 == 0:
                browser.cookies.clear()
                await browser.log_in(DORA)
                browser.cookies.clear()
        assert 429 in codes


async def test_throttling_is_in_the_database(served: Served, tmp_path: Path) -> None:
    """Another node, or the same after a restart, knows of the attempts."""
    await served.account()
    async with served.browser() as browser:
        for _ in range(5):
            await browser.log_in(CLERK, "wrong, surely")
    other = type(served.accounts)(served.services.hold.core.database, served.services.settings.console, served.clock)
    answer = await other.door.password(CLERK, PASSWORD, Visit(Method.PASSWORD, "192.0.2.99"), second=False)
    assert answer.outcome == "throttled"


async def test_setup_link_sets_a_password_once(served: Served) -> None:
    """Looking (a scanner that follows links) uses nothing up; setting does; a day later it is over."""
    await served.accounts.people.add(CLERK, TESTER, admin=True)
    link, _ = await served.accounts.people.make_link(CLERK, TESTER)
    async with served.browser() as browser:
        for _ in range(3):
            assert CLERK in (await browser.get(f"/setup/{link}")).text
            assert (await browser.head(f"/setup/{link}")).status_code == 200
        short = await browser.submit(f"/setup/{link}", password="short", again="short")
        assert (short.status_code, "at least 12 characters" in short.text) == (400, True)
        twice = await browser.submit(f"/setup/{link}", password=PASSWORD, again=OTHER_PASSWORD)
        assert twice.status_code == 400
        done = await browser.submit(f"/setup/{link}", password=PASSWORD, again=PASSWORD)
        assert done.headers["location"] == "/login?said=password"
        assert (await browser.get(f"/setup/{link}")).status_code == 404
        assert (await browser.log_in(CLERK)).status_code == 303
        late, _ = await served.accounts.people.make_link(CLERK, TESTER)
        served.clock.move(hours=25)
        assert (await browser.get(f"/setup/{late}")).status_code == 404


async def test_login_never_leads_elsewhere(served: Served) -> None:
    """Open redirect: whatever ``next`` says, the way after login stays on this console."""
    await served.account()
    targets = ("//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "\\\\evil.example")
    for target in (*targets, "/x\r\nSet-Cookie: a=b", "/\t/evil.example", "evil.example", " /x", "/" + "x" * 600):
        async with served.browser() as browser:
            answer = await browser.log_in(CLERK, next=target)
            assert (answer.status_code, answer.headers["location"]) == (303, "/"), target
            again = await browser.get("/login", params={"next": target})
            assert (again.status_code, again.headers["location"]) == (303, "/"), target

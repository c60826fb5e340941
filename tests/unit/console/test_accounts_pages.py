"""One's own account and everybody's for administrators: what they show, do, record, and refuse. Over real HTTP."""

import asyncio
import re
from pathlib import Path

import pytest

from gateway.accounts import Method, Stage, Visit, totp
from gateway.accounts.people import Administrators
from gateway.accounts.tokens import Scope
from gateway.errors import OperatorError
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


async def _enrol(browser: Browser, served: Served, path: str = "/account/totp", password: str = PASSWORD) -> str:
    """Set up or replace the second factor; the new secret."""
    found = re.search(r"the key: <code>([A-Z2-7 ]+)</code>", (await browser.get(path)).text)
    assert found is not None
    secret = found[1].replace(" ", "")
    code = totp.code_at(secret, totp.step_at(served.clock()))
    done = await browser.submit("/account/totp", path, code=code, password=password)
    assert done.status_code == 200, done.text
    return secret


# --- one's own --------------------------------------------------------------------------------------------------------


async def test_an_open_browser_does_not_become_its_owner(served: Served) -> None:
    """Without the password no second factor is set up or replaced, no recovery code made, no token made."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        for password in ("", "not the password"):
            code = {"code": "000000", "password": password}
            assert (await browser.submit("/account/totp", **code)).status_code == 403
            form = {"name": "x", "scope": "decide", "days": "7", "password": password}
            assert (await browser.submit("/account/tokens", **form)).status_code == 403
        await _enrol(browser, served)
        assert (await browser.submit("/account/recovery", password="not the password")).status_code == 403
        replaced = await browser.submit("/account/totp", "/account/totp?new=1", code="000000", password="not mine")
        assert replaced.status_code == 403
    assert await served.accounts.tokens.list(CLERK) == ()
    assert (await served.events(CLERK)).count("totp-enrolled") == 1


async def test_a_new_phone_replaces_the_old_one(served: Served) -> None:
    """With the password and the new app's code; the old app, old recovery codes and other sessions are over."""
    await served.account()
    async with served.browser() as browser, served.browser() as elsewhere:
        await browser.log_in(CLERK)
        old = await _enrol(browser, served)
        served.clock.move(minutes=5)
        secret = await served.accounts.sessions.start(CLERK, Stage.FULL, Visit(Method.PASSWORD, "192.0.2.9", "b"))
        elsewhere.cookies.set("civicgate", secret, domain="127.0.0.1")
        assert (await elsewhere.get("/account")).status_code == 200
        assert (await browser.get("/account/totp")).headers["location"] == "/account"
        new = await _enrol(browser, served, "/account/totp?new=1")
        assert new != old
        assert (await browser.get("/account")).status_code == 200
        assert (await elsewhere.get("/account")).status_code == 303
    served.clock.move(minutes=5)
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        now = totp.step_at(served.clock())
        assert (await browser.submit("/login/code", code=totp.code_at(old, now))).status_code == 403
        assert (await browser.submit("/login/code", code=totp.code_at(new, now))).status_code == 303


async def test_new_recovery_codes_end_the_old_ones(served: Served) -> None:
    """Ten, shown once, with the password; none without a second factor."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        assert (await browser.get("/account/recovery")).status_code == 409
        await _enrol(browser, served)
        first = await served.accounts.people.new_codes(CLERK, TESTER)
        made = await browser.submit("/account/recovery", password=PASSWORD)
        codes = re.findall(r"<li><code>([a-z2-7-]+)</code>", made.text)
        assert (made.status_code, len(set(codes)), set(codes) & set(first)) == (200, 10, set())
        assert codes[0] not in (await browser.get("/account/recovery")).text
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        assert (await browser.submit("/login/code", code=first[0])).status_code == 403
        assert (await browser.submit("/login/code", code=codes[0])).status_code == 303
    assert "recovery-codes-made" in await served.events(CLERK)


async def test_own_tokens_are_made_shown_once_and_revoked(served: Served) -> None:
    """The token works in its scope, is nowhere to be read again, and stops; nobody revokes another's."""
    await served.account()
    _, others = await served.accounts.tokens.add("hers", DORA, Scope.READ, served.clock().replace(year=2099), TESTER)
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        form = {"name": "<b>desk</b>", "scope": "read", "days": "30", "password": PASSWORD}
        made = await browser.submit("/account/tokens", **form)
        found = re.search(r"civicgate_[\w-]{43}", made.text)
        assert found is not None
        assert made.headers["cache-control"] == "no-store"
        page = (await browser.get("/account")).text
        assert "&lt;b&gt;desk&lt;/b&gt;" in page
        assert found[0] not in page
        headers = {"authorization": f"Bearer {found[0]}"}
        async with served.browser(headers=headers) as program:
            assert (await program.get("/api/v1/items")).status_code == 200
            assert (await program.post("/api/v1/items/x/comments", json={"comment": "x"})).status_code == 403
            assert (await program.get("/account")).status_code == 303, "it opens the API alone"
            stolen = await browser.submit("/account/tokens/revoke", "/account", token=others.id)
            assert stolen.status_code == 404
            ident = (await served.accounts.tokens.list(CLERK))[0].id
            assert (await browser.submit("/account/tokens/revoke", "/account", token=ident)).status_code == 303
            assert (await program.get("/api/v1/items")).status_code == 401
    assert [t.id for t in await served.accounts.tokens.list(DORA)] == [others.id]


@pytest.mark.parametrize(
    "change",
    [{"scope": "admin"}, {"days": "367"}, {"days": "0000000019999"}, {"name": "  "}, {"scope": ""}],
    ids=["scope", "too-long", "prefix", "no-name", "no-scope"],
)
async def test_a_token_that_means_nothing_is_not_made(served: Served, change: dict[str, str]) -> None:
    """400 with words, and what was typed is still there."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        form = {"name": "desk", "scope": "read", "days": "30", "password": PASSWORD} | change
        got = await browser.submit("/account/tokens", **form)
    assert (got.status_code, 'role="alert"' in got.text) == (400, True)
    assert await served.accounts.tokens.list(CLERK) == ()


async def test_people_of_a_provider_make_tokens_after_a_fresh_login(served: Served) -> None:
    """They have no password here: a login of the last quarter of an hour proves who sits there."""
    secret = await served.accounts.sessions.start(CLERK, Stage.FULL, Visit(Method.OIDC, "192.0.2.9", "b"))
    form = {"name": "desk", "scope": "read", "days": "30"}
    async with served.browser() as browser:
        browser.cookies.set("civicgate", secret, domain="127.0.0.1")
        assert (await browser.submit("/account/tokens", **form)).status_code == 200
        served.clock.move(minutes=16)
        assert (await browser.submit("/account/tokens", **form)).status_code == 403
        assert (await browser.get("/account/recovery")).status_code == 403


async def test_the_page_of_the_recovery_codes_logs_out(served: Served) -> None:
    """Its forms carried the token of the session before: «Log out» said that the form was too old."""
    await served.account()
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        found = re.search(r"the key: <code>([A-Z2-7 ]+)</code>", (await browser.get("/account/totp")).text)
        assert found is not None
        code = totp.code_at(found[1].replace(" ", ""), totp.step_at(served.clock()))
        page = await browser.submit("/account/totp", code=code, password=PASSWORD)
        out = await browser.post("/logout", data={"csrf": csrf_of(page.text)})
        assert (out.status_code, out.headers["location"]) == (303, "/login?said=out")


async def test_no_one_time_link_is_logged(served: Served) -> None:
    """A wrong method on a link wrote its secret into the log."""
    async with served.browser() as browser:
        for method in ("GET", "PUT", "POST", "HEAD"):
            for path in ("/decide/a-secret-of-a-link", "/setup/a-secret-of-a-link"):
                assert (await browser.request(method, path)).status_code >= 400
    assert len([line for line in served.log.lines if line[1] == "console"]) == 8
    assert "a-secret-of-a-link" not in str(served.log.lines)


# --- strangers at the door --------------------------------------------------------------------------------------------


async def test_strangers_cannot_keep_an_administrator_out(served: Served) -> None:
    """Whoever tries passwords closes the account for strangers; a browser in which she logged in before gets in."""
    await served.account(IDA)
    async with served.browser() as known, served.browser() as stranger:
        await known.log_in(IDA)
        mark = known.cookies["civicgate-mark"]
        await known.submit("/logout", "/account")
        assert known.cookies["civicgate-mark"] == mark, "it outlives the session"
        for _ in range(12):
            served.clock.move(seconds=1)
            await stranger.log_in(IDA, "not the password")
        assert (await stranger.log_in(IDA)).status_code == 429
        assert (await known.log_in(IDA)).status_code == 303
        await known.submit("/logout", "/account")
        assert (await stranger.log_in(IDA)).status_code == 429, "her login gives strangers no new attempts"


async def test_who_is_refused_writes_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hammering at a closed account took the database's one writer from the mail; now it only reads."""
    await served.account(IDA)
    async with served.browser() as stranger:
        for _ in range(5):
            await stranger.log_in(IDA, "not the password")

        async def never(*_: object, **__: object) -> None:
            raise AssertionError("a write")

        monkeypatch.setattr(type(served.accounts.core.database), "write", never)
        assert (await stranger.log_in(IDA)).status_code == 429


async def test_a_known_browser_is_throttled_by_itself(served: Served) -> None:
    """Five tries there, too; and another's mark, an invented or an old one is none."""
    await served.account(IDA)
    await served.account(CLERK)
    async with served.browser() as known:
        await known.log_in(IDA)
        mark = known.cookies["civicgate-mark"]
        await known.submit("/logout", "/account")
        for _ in range(5):
            assert (await known.log_in(IDA, "not the password")).status_code == 403
        assert (await known.log_in(IDA)).status_code == 429
    for address, shown, days in ((CLERK, mark, 0), (IDA, "9999999999-x." + "0" * 64, 0), (IDA, mark, 181)):
        served.clock.move(days=days)
        async with served.browser() as other:
            for _ in range(5):
                assert (await other.log_in(address, "not the password")).status_code == 403
            other.cookies.set("civicgate-mark", shown, domain="127.0.0.1")
            assert (await other.log_in(address)).status_code == 429
        served.clock.move(days=2)


async def test_strangers_keep_nobody_from_changing_the_password(served: Served) -> None:
    """Attempts at the door and in a session are counted apart; those in a session wait, too."""
    await served.account()
    async with served.browser() as browser, served.browser() as stranger:
        await browser.log_in(CLERK)
        for _ in range(6):
            await stranger.log_in(CLERK, "not the password")
        new = {"password": OTHER_PASSWORD, "again": OTHER_PASSWORD}
        for _ in range(5):
            assert (await browser.submit("/account/password", old="wrong, surely", **new)).status_code == 403
        waits = await browser.submit("/account/password", old=PASSWORD, **new)
        assert "Too many attempts" in waits.text
        served.clock.move(minutes=1)
        assert (await browser.submit("/account/password", old=PASSWORD, **new)).status_code == 303


# --- everybody's ------------------------------------------------------------------------------------------------------


async def test_administrators_see_who_can_log_in_and_who_is(served: Served) -> None:
    """Local accounts and people of the provider; roles, second factor, last login, sessions; nobody else sees it."""
    await served.account(IDA)
    await served.account(CLERK)
    await served.accounts.people.add("left@city.example", TESTER)
    until = served.clock().replace(year=2099)
    await served.accounts.tokens.add("script", "programs@city.example", Scope.READ, until, TESTER)
    await served.accounts.sessions.start(DORA, Stage.FULL, Visit(Method.OIDC, "192.0.2.9", "b"))
    async with served.browser() as admin, served.browser() as clerk:
        await admin.log_in(IDA)
        await clerk.log_in(CLERK)
        page = (await admin.get("/accounts")).text
        for word in (
            "Ida Tec",
            "it-director",
            "Dora Director",
            "No account here",
            "not in the directory",
            "No password",
            "programs@",
        ):
            assert word in page
        assert 'href="/accounts"' in page
        assert 'href="/accounts"' not in (await clerk.get("/account")).text
        for path in ("/accounts", f"/accounts/{IDA}", f"/accounts/{CLERK}"):
            assert (await clerk.get(path)).status_code == 403
        assert (await clerk.submit(f"/accounts/{IDA}", "/account", action="disable")).status_code == 403
        assert (await admin.get("/accounts/nobody@city.example")).status_code == 404
        assert (await admin.get("/accounts/")).status_code == 404


async def test_administrators_disable_reset_and_end(served: Served) -> None:
    """Each is done at once, said, and recorded with who did it; an unknown action does nothing."""
    await served.account(IDA)
    await served.account(CLERK)
    _, token = await served.accounts.tokens.add("x", CLERK, Scope.READ, served.clock().replace(year=2099), TESTER)
    async with served.browser() as admin, served.browser() as clerk:
        await admin.log_in(IDA)
        await clerk.log_in(CLERK)
        await _enrol(clerk, served)
        at = f"/accounts/{CLERK}"

        async def do(action: str, **more: str) -> str:
            done = await admin.submit(at, at, action=action, **more)
            assert done.status_code == 303, (action, done.text)
            return done.headers["location"]

        assert await do("end-sessions") == f"{at}?done=sessions-ended"
        assert (await clerk.get("/account")).status_code == 303
        assert await do("reset-totp") == f"{at}?done=totp-reset"
        assert (await clerk.log_in(CLERK)).headers["location"] == "/"
        assert await do("revoke-token", token=token.id) == f"{at}?done=token-revoked"
        assert await do("disable") == f"{at}?done=disabled"
        assert (await clerk.get("/account")).status_code == 303
        assert (await clerk.log_in(CLERK)).status_code == 403
        assert await do("enable") == f"{at}?done=enabled"
        assert (await clerk.log_in(CLERK)).status_code == 303
        assert (await admin.submit(at, at, action="promote")).status_code == 400
        assert "Second factor taken away" in (await admin.get(at)).text
    by = {(e.event, e.actor) for e in await served.accounts.history(CLERK) if e.actor == IDA}
    assert {name for name, _ in by} == {
        "sessions-ended",
        "totp-reset",
        "token-revoked",
        "account-disabled",
        "account-enabled",
    }


async def test_administrators_do_not_shut_themselves_out(served: Served) -> None:
    """Not disabled, not without second factor, and still logged in here after ending all other sessions."""
    await served.account(IDA)
    async with served.browser() as admin:
        await admin.log_in(IDA)
        at = f"/accounts/{IDA}"
        for action in ("disable", "reset-totp"):
            assert (await admin.submit(at, at, action=action)).status_code == 409
        assert (await admin.submit(at, at, action="end-sessions")).status_code == 303
        assert (await admin.get(at)).status_code == 200


async def test_the_right_to_administer_holds_from_the_next_page_on(served: Served) -> None:
    """Granted and revoked beside a session that goes on: the pages for administrators open and shut at once."""
    await served.account(CLERK)
    await served.account(DORA, admin=True)
    people = served.accounts.people
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        assert (await browser.get("/accounts")).status_code == 403
        await people.grant_admin(CLERK, TESTER)
        assert (await browser.get("/accounts")).status_code == 200
        assert "Made an administrator" in (await browser.get(f"/accounts/{CLERK}")).text
        await people.revoke_admin(CLERK, TESTER, Administrators(frozenset(), provider=False))
        assert (await browser.get("/accounts")).status_code == 403


async def test_two_administrators_do_not_end_each_other(served: Served) -> None:
    """Both taken away at the same instant: one is refused, and one is left."""
    people, others = served.accounts.people, Administrators(frozenset(), provider=False)
    for address in (CLERK, DORA):
        await served.account(address, admin=True)
    done = await asyncio.gather(
        *(people.revoke_admin(one, TESTER, others) for one in (CLERK, DORA)), return_exceptions=True
    )
    assert sorted(isinstance(one, OperatorError) for one in done) == [False, True]
    assert len([one for one in await people.list() if one.admin]) == 1


async def test_an_address_with_odd_signs_is_a_page_and_no_markup(tmp_path: Path, fresh_store: Path) -> None:
    """Accounts under a prefix, with a slash and quotes in the local part: linked, shown, escaped."""
    odd = "a/'\"&b?c#d%2e@city.example"
    async with serving(tmp_path, fresh_store, base_url="http://localhost:1/gate") as served:
        await served.account(IDA)
        await served.accounts.people.add(odd, TESTER)
        async with served.browser(headers={"host": "localhost:1"}) as admin:
            await admin.submit("/gate/login", address=IDA, password=PASSWORD)
            link = re.search(r'href="(/gate/accounts/a%2F[^"]+)"', (await admin.get("/gate/accounts")).text)
            assert link is not None
            page = await admin.get(link[1])
            assert (page.status_code, "'\"&b" in page.text) == (200, False)
            done = await admin.submit(link[1], link[1], action="disable")
            assert done.headers["location"] == f"{link[1]}?done=disabled"

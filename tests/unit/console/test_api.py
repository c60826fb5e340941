"""The API: every answer is what its OpenAPI description says, decisions are idempotent, scopes and people hold."""

import asyncio
import re
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jsonschema
import pytest
import pytest_asyncio

from gateway.accounts.tokens import Scope
from gateway.console.api_schema import document
from gateway.console.pages.exceptions import kinds
from gateway.console.routes import ROUTES
from gateway.hold import State
from gateway.store.events import Actor
from tests.browser.town import CABLE, CLERK, HERALD, MANAGER, ROOT, Town, town
from tests.unit.console.serving import NO_TLS

pytestmark = pytest.mark.asyncio(loop_scope="module")
DOCUMENT = document("http://localhost")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A running console with a morning's mail."""
    async with town(tmp_path_factory.mktemp("town")) as made:
        await made.populate()
        yield made


async def token(city: Town, person: str, scope: Scope = Scope.DECIDE) -> str:
    """A bearer token of this person."""
    until = city.clock() + timedelta(days=1)
    return (await city.accounts.tokens.add("tests", person, scope, until, Actor(person)))[0]


async def client(city: Town, person: str, scope: Scope = Scope.DECIDE) -> httpx.AsyncClient:
    """A program that speaks for this person."""
    headers = {"authorization": f"Bearer {await token(city, person, scope)}"}
    return httpx.AsyncClient(**NO_TLS, base_url=f"{city.url}/api/v1", headers=headers, timeout=20)


def check(answer: httpx.Response, path: str, method: str = "get") -> Any:
    """The answer's JSON, held against the description of this operation. Raises when the two differ."""
    described = DOCUMENT["paths"][f"/api/v1{path}"][method]["responses"][str(answer.status_code)]
    ((media, content),) = described["content"].items()
    assert answer.headers["content-type"] == media
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(answer.json())
    return answer.json()


async def test_the_description_is_served_and_names_every_operation(city: Town) -> None:
    """Without a token; all routes below /api/v1 and no others; it is a valid description of references that exist."""
    async with httpx.AsyncClient(**NO_TLS) as http:
        served = (await http.get(f"{city.url}/api/v1/openapi.json")).json()
    assert served["openapi"] == "3.1.0"
    assert served["servers"] == [{"url": city.url}]
    routes = {(page.path, page.method.lower()) for page in ROUTES if page.path.startswith("/api/")}
    described = {(path, method) for path, methods in served["paths"].items() for method in methods}
    assert routes - {("/api/v1/openapi.json", "get")} == described
    names = set(re.findall(r"#/components/schemas/(\w+)", str(served)))
    assert names <= set(served["components"]["schemas"])
    for schema in served["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_every_answer_is_as_described(city: Town) -> None:
    """Lists, one item, its record, queues, exceptions: each answer validates against the description."""
    async with await client(city, CABLE) as http:
        items = check(await http.get("/items", params={"state": "all"}), "/items")["items"]
        assert {item["sender"] for item in items} >= {CLERK, "billing@vendor.example"}
        for item in items:
            check(await http.get(f"/items/{item['id']}"), "/items/{item}")
            check(await http.get(f"/items/{item['id']}/history"), "/items/{item}/history")
        check(await http.get("/queues"), "/queues")
        assert check(await http.get("/exceptions"), "/exceptions")["exceptions"]


async def test_pages_go_on_where_the_one_before_ended(city: Town) -> None:
    """Two at a time, every item once, in order; an invented place is refused."""
    async with await client(city, CABLE) as http:
        whole = [i["id"] for i in (await http.get("/items", params={"state": "all"})).json()["items"]]
        seen: list[str] = []
        after = ""
        while True:
            page = check(await http.get("/items", params={"state": "all", "limit": 2, "after": after}), "/items")
            seen += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            after = page["next"]
        check(bad := await http.get("/items", params={"after": "nonsense"}), "/items")
    assert seen == whole
    assert bad.status_code == 400


async def test_a_decision_said_twice_changes_nothing(city: Town) -> None:
    """The second answer says so; another digest is refused; two people bring it to an end."""
    ident = await city.keep("By program")
    async with await client(city, MANAGER) as http:
        item = check(await http.get(f"/items/{ident}"), "/items/{item}")
        assert [need["role"] for need in item["needs"]] == ["director", "communications-specialist"]
        body = {"verdict": "approve", "digest": item["digest"], "comment": "Ticket 4711"}
        path = f"/items/{ident}/decisions"
        wrong = check(await http.post(path, json=body | {"digest": "0" * 64}), "/items/{item}/decisions", "post")
        first = check(await http.post(path, json=body), "/items/{item}/decisions", "post")
        second = check(await http.post(path, json=body), "/items/{item}/decisions", "post")
        check(await http.post(f"/items/{ident}/comments", json={"comment": "x"}), "/items/{item}/comments", "post")
    assert wrong["status"] == 409
    assert (first["changed"], second["changed"]) == (True, False)
    async with await client(city, HERALD) as http:
        last = check(await http.post(path, json=body), "/items/{item}/decisions", "post")
    assert last["needs"] == []
    assert (await city.item(ident)).state is State.APPROVED
    events = await city.hold.history(ident)
    assert [e.actor for e in events if e.event in ("approve", "complete")] == [MANAGER, HERALD]
    assert all("api token" in e.os_user for e in events if e.event in ("approve", "complete"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"verdict": "reject"}, 422),
        ({"verdict": "release", "digest": "0" * 64}, 422),
        ({"verdict": "approve", "digest": "0" * 64, "more": 1}, 422),
        ({"verdict": "approve", "digest": "0" * 64, "comment": "x" * 2001}, 422),
        ([], 422),
        ("x" * 1_000_001, 413),
    ],
    ids=["digest", "verdict", "unknown", "long", "list", "large"],
)
async def test_a_body_that_does_not_fit_is_a_problem(city: Town, body: Any, status: int) -> None:
    """With words that name the field."""
    ident = await city.keep("Untouched")
    async with await client(city, MANAGER) as http:
        got = check(await http.post(f"/items/{ident}/decisions", json=body), "/items/{item}/decisions", "post")
    assert got["status"] == status


async def test_a_sender_takes_a_message_back_by_program(city: Town) -> None:
    """The sender's token may; another's may not."""
    ident = await city.keep("Back, please", sender=CLERK)
    async with await client(city, MANAGER) as http:
        check(refused := await http.post(f"/items/{ident}/withdrawal"), "/items/{item}/withdrawal", "post")
    async with await client(city, CLERK) as http:
        done = check(await http.post(f"/items/{ident}/withdrawal"), "/items/{item}/withdrawal", "post")
    assert refused.status_code == 409
    assert done["item"]["state"] == "withdrawn"


async def test_a_token_may_what_its_scope_and_its_person_may(city: Town) -> None:
    """No token, a wrong one, a reading one, a person who is not asked, one who is no administrator: each is refused."""
    ident = await city.keep("Guarded")
    digest = (await city.item(ident)).message.sha256
    body = {"verdict": "approve", "digest": digest}
    decisions = ("/items/{item}/decisions", "post")
    async with httpx.AsyncClient(**NO_TLS, base_url=f"{city.url}/api/v1") as http:
        check(nobody := await http.get("/items"), "/items")
        http.headers["authorization"] = "Bearer civicgate_" + "A" * 43
        check(forged := await http.get("/items"), "/items")
    async with await client(city, MANAGER, Scope.READ) as http:
        check(reader := await http.post(f"/items/{ident}/decisions", json=body), *decisions)
    async with await client(city, CABLE) as http:
        check(other := await http.post(f"/items/{ident}/decisions", json=body), *decisions)
        sealed = check(await http.get(f"/items/{ident}"), "/items/{item}")
    async with await client(city, MANAGER) as http:
        check(grant := await http.post("/exceptions", json=EXCEPTION), "/exceptions", "post")
    async with await client(city, "contractor@city.example") as http:
        check(hidden := await http.get(f"/items/{ident}"), "/items/{item}")
        assert check(await http.get("/items", params={"state": "all"}), "/items")["items"] == []
    codes = [answer.status_code for answer in (nobody, forged, reader, other, grant, hidden)]
    assert codes == [401, 401, 403, 409, 403, 404]
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert sealed["subject"] is None
    assert (await city.hold.desk.read(ident)).said == ()


EXCEPTION = {
    "kind": "large-file",
    "sender": "gis@city.example",
    "reason": "Ticket 4711",
    "expires": (datetime.now(UTC) + timedelta(days=30)).isoformat(),
}


async def test_exceptions_by_program(city: Town) -> None:
    """Granted by an administrator's token, listed, ended; ending it again is no error."""
    async with await client(city, CABLE) as http:
        body = EXCEPTION | {"kind": next(iter(kinds(city.rules)))}
        odd = check(await http.post("/exceptions", json=body | {"kind": "nothing"}), "/exceptions", "post")
        made = check(await http.post("/exceptions", json=body), "/exceptions", "post")
        for _ in range(2):
            ended = check(await http.delete(f"/exceptions/{made['id']}"), "/exceptions/{exception}", "delete")
            assert ended["state"] == "revoked"
        check(nothing := await http.delete("/exceptions/none"), "/exceptions/{exception}", "delete")
    assert odd["status"] == 422
    assert nothing.status_code == 404


async def test_the_examples_of_the_documentation_run(city: Town, tmp_path: Path) -> None:
    """Each curl command of docs/api.md, one after the other, as written but for address, token, id and digest."""
    ident = await city.keep("For the documentation")
    digest = (await city.item(ident)).message.sha256
    made = {"CIVICGATE": city.url, "TOKEN": await token(city, MANAGER), "ITEM": ident, "DIGEST": digest}
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    commands = re.findall(r"```sh\n(curl .*?)```", text, re.DOTALL)
    assert len(commands) >= 4
    for command in commands:
        careful = command.replace("curl ", "curl --silent --show-error --fail-with-body --max-time 20 ", 1)
        done = await asyncio.create_subprocess_exec(
            "bash", "-c", careful, env=made | {"PATH": "/usr/bin:/bin"}, stdout=PIPE, stderr=STDOUT
        )  # fmt: skip
        said, _ = await done.communicate()
        assert done.returncode == 0, (command, said)

"""The API's description in OpenAPI 3.1, by hand: what a reader needs, and no more than the program does.

Refuses nothing; a test holds every answer of the running console against it.
"""

from typing import Any

from gateway import __version__

Schema = dict[str, Any]


def _text(about: str = "", **more: Any) -> Schema:
    return {"type": "string"} | ({"description": about} if about else {}) | more


def _list(of: Schema, about: str = "") -> Schema:
    return {"type": "array", "items": of} | ({"description": about} if about else {})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(about: str, /, *optional: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


_MOMENT = {"type": "string", "format": "date-time"}
_DIGEST = _text("SHA-256 of the message, hex.", pattern="^[0-9a-f]{64}$")
_STATES = (
    "attesting", "held", "approved", "releasing", "released", "refused", "rejected", "expired", "returned", "withdrawn",
    "damaged",
)  # fmt: skip
_ITEM: dict[str, Schema] = {
    "id": _text(),
    "state": {"enum": list(_STATES)},
    "queue": _text("Queue of the first rule that holds it."),
    "round": {"type": "integer", "description": "1, and one more each time that a release came back."},
    "sender": _text("Reverse-path; empty for automatic senders."),
    "recipients": _list(_text()),
    "lists": _list(_text(), "Ids of the directory's lists among the recipients."),
    "people": {"type": ["integer", "null"], "description": "How many people get it; null: not known."},
    "subject": {"type": ["string", "null"], "description": "null when it is sealed to the token's person."},
    "size": {"type": "integer", "description": "Octets."},
    "digest": _DIGEST,
    "message_id": _text(),
    "rules": _list(_text(), "Ids of the rules that hold it."),
    "reasons": _list(_text()),
    "clauses": _list(_text(), "Ids of the policy's clauses."),
    "received": _MOMENT,
    "changed": _MOMENT,
    "expires": _MOMENT,
    "url": _text("The item's page.", format="uri"),
}
_SCHEMAS: dict[str, Schema] = {
    "Item": _object("A held message for some of its recipients.", **_ITEM),
    "WholeItem": _object(
        "An item with who is asked and what was said.",
        **_ITEM,
        needs=_list(_ref("Need"), "Approvals that are still missing."),
        decisions=_list(_ref("Decision")),
    ),
    "Need": _object(
        "One approval that is missing.",
        role=_text(),
        people=_list(_text(), "Who can give it."),
        fallback={"type": "boolean", "description": "Too few hold the role, so the fallback role is asked."},
    ),
    "Decision": _object(
        "What one person said.",
        person=_text(),
        verdict={"enum": ["approve", "reject"]},
        roles=_list(_text()),
        comment={"type": ["string", "null"], "description": "null: for the item's approvers and its sender alone."},
        round={"type": "integer"},
        at=_MOMENT,
    ),
    "Items": _object(
        "One page.", items=_list(_ref("Item")), next={"type": ["string", "null"], "description": "For «after»."}
    ),
    "Event": _object(
        "One line of the record.",
        seq={"type": "integer"},
        at=_MOMENT,
        actor=_text(),
        origin=_text("From where."),
        event=_text(),
        comment={"type": ["string", "null"], "description": "null: for the item's approvers and its sender alone."},
        hash=_text("Covers the line before."),
    ),
    "Events": _object("The record of one item, oldest first.", events=_list(_ref("Event"))),
    "Decide": _object(
        "A decision. «digest» is that of the message that was looked at; another one is refused.",
        "comment",
        "role",
        "recipients",
        "rest",
        verdict={"enum": ["approve", "reject"]},
        digest=_DIGEST,
        comment=_text("A rejection's reason; the sender reads it.", maxLength=2000),
        role=_text("Which of the person's roles; by default all that fit."),
        recipients=_list(_text(), "Approve for these only."),
        rest={"enum": ["hold", "reject"], "description": "What becomes of the other recipients."},
    ),
    "Word": _object("A comment.", comment=_text(minLength=1, maxLength=2000)),
    "Outcome": _object(
        "What was done.",
        changed={"type": "boolean", "description": "false: it had been said before; nothing was changed."},
        text=_text(),
        needs=_list(_ref("Need")),
        item=_ref("Item"),
    ),
    "Queues": _object(
        "Counts and ages.",
        queues=_list(
            _object("", queue=_text(), held={"type": "integer"}, oldest_seconds={"type": "number"}),
        ),
        outbox=_object("", waiting={"type": "integer"}, oldest_seconds={"type": "number"}),
        damaged={"type": "integer"},
    ),
    "Exception": _object(
        "An approved exception to a rule.",
        id=_text(),
        kind=_text(),
        sender=_text("Address, @domain or *."),
        recipient=_text("Address, @domain or *."),
        reason=_text(),
        approver=_text(),
        created=_MOMENT,
        expires=_MOMENT,
        uses_left={"type": ["integer", "null"], "description": "null: any number."},
        max_size={"type": ["integer", "null"], "description": "Octets; null: no bound of its own."},
        state={"enum": ["active", "used up", "over", "revoked"]},
    ),
    "Exceptions": _object("Exceptions.", exceptions=_list(_ref("Exception"))),
    "NewException": _object(
        "An exception to be granted; the token's person is its approver.",
        "recipient",
        "uses_left",
        "max_size",
        kind=_text(),
        sender=_text(),
        recipient=_text(default="*"),
        reason=_text(minLength=1, maxLength=2000),
        expires=_MOMENT | {"description": "With its zone; 366 days from now at most."},
        uses_left={"type": ["integer", "null"], "minimum": 1, "maximum": 100_000},
        max_size={"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000_000_000},
    ),
    "Problem": _object(
        "What went wrong (RFC 9457).",
        type=_text(),
        title=_text(),
        status={"type": "integer"},
        detail=_text(),
    ),
}
_PROBLEMS = {
    "400": "A parameter or the request is wrong.",
    "401": "No token, or one that is not known any more.",
    "403": "The token's scope or its person may not.",
    "404": "There is no such thing that the person could see.",
    "409": "It cannot be done as things stand; the text says why.",
    "413": "The request is larger than the console reads.",
    "415": "The body is not application/json.",
    "422": "The body does not fit.",
    "503": "The store does not answer.",
}


def _answers(name: str, status: str = "200", problems: tuple[str, ...] = ()) -> Schema:
    found = {status: {"description": "Done.", "content": {"application/json": {"schema": _ref(name)}}}}
    for code in ("401", "403", *problems, "503"):
        content = {"application/problem+json": {"schema": _ref("Problem")}}
        found[code] = {"description": _PROBLEMS[code], "content": content}
    return found


def _body(name: str) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": _ref(name)}}}


def _query(name: str, about: str, schema: Schema | None = None) -> Schema:
    return {"name": name, "in": "query", "description": about, "schema": schema or _text()}


def _path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _text()}


_SORTS = ["created", "-created", "expires", "-expires", "size", "-size"]
_LIST = [
    _query("q", "Words in addresses, Message-ID and id."),
    _query("subject", "Words in subjects, of what waits for the token's person."),
    _query("state", "By default those that are open.", {"enum": ["open", "all", *_STATES], "default": "open"}),
    _query("queue", "One queue."),
    _query("rule", "One rule's id."),
    _query("sort", "- turns the order.", {"enum": _SORTS, "default": "created"}),
    _query("mine", "1: only what waits for the token's person.", {"enum": ["1", "true", "0", "false", ""]}),
    _query("limit", "Items on a page.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
    _query("after", "«next» of the page before."),
]
_BAD = ("409", "413", "415", "422")


def _operation(about: str, ident: str, answers: Schema, **more: Any) -> Schema:
    return {"summary": about, "operationId": ident, "responses": answers} | more


def _paths() -> Schema:
    item, exception = _path("item"), _path("exception")
    return {
        "/api/v1/items": {
            "get": _operation(
                "Held items, a page at a time", "items", _answers("Items", problems=("400",)), parameters=_LIST
            )
        },
        "/api/v1/items/{item}": {
            "get": _operation("One item", "item", _answers("WholeItem", problems=("404", "409")), parameters=[item])
        },
        "/api/v1/items/{item}/history": {
            "get": _operation("Its record", "history", _answers("Events", problems=("404", "409")), parameters=[item])
        },
        "/api/v1/items/{item}/decisions": {
            "post": _operation(
                "Approve or reject; saying the same again changes nothing",
                "decide",
                _answers("Outcome", problems=("404", *_BAD)),
                parameters=[item],
                requestBody=_body("Decide"),
            )
        },
        "/api/v1/items/{item}/comments": {
            "post": _operation(
                "A word without a decision",
                "comment",
                _answers("Outcome", problems=("404", *_BAD)),
                parameters=[item],
                requestBody=_body("Word"),
            )
        },
        "/api/v1/items/{item}/withdrawal": {
            "post": _operation(
                "The sender takes it back", "withdraw", _answers("Outcome", problems=("404", "409")), parameters=[item]
            )
        },
        "/api/v1/queues": {"get": _operation("Counts and ages", "queues", _answers("Queues"))},
        "/api/v1/exceptions": {
            "get": _operation(
                "Exceptions in force",
                "exceptions",
                _answers("Exceptions"),
                parameters=[_query("all", "1: past ones too.", {"enum": ["1", "true", "0", "false", ""]})],
            ),
            "post": _operation(
                "Grant one", "addException", _answers("Exception", "201", _BAD), requestBody=_body("NewException")
            ),
        },
        "/api/v1/exceptions/{exception}": {
            "delete": _operation(
                "End one now", "revokeException", _answers("Exception", problems=("404", "409")), parameters=[exception]
            )
        },
    }


def document(url: str) -> Schema:
    """The whole description. ``url``: where people reach the console."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Civicgate",
            "version": __version__,
            "description": "Held mail for ticket systems. Times are RFC 3339 in UTC. Content is never given out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "From `civicgate tokens add`; the scope is read or decide.",
                }
            },
            "schemas": _SCHEMAS,
        },
    }

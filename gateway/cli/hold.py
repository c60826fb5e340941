"""``civicgate hold``: list, show, approve, reject, release, history, verify.

Refuses to show subject or body to anybody but an approver of the item; reading a body is an event in its history.
"""

import argparse
import asyncio
import base64
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from gateway.cli.columns import complain, moment, os_user, print_json, shown, span, table
from gateway.directory import load_directory
from gateway.errors import CivicgateError
from gateway.hold import HeldItem, Hold, Outcome, State, open_hold
from gateway.hold.decide import Order, Reading
from gateway.hold.post import in_words, list_ids
from gateway.settings import Settings


def register(subparsers: Any) -> None:
    """Add ``hold`` and its sub-commands to the main command's parser."""
    hold = subparsers.add_parser("hold", help="held mail: list, show, approve, reject, release, history")
    actions = hold.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="output for programs")
    item = argparse.ArgumentParser(add_help=False, parents=[common])
    item.add_argument("id", metavar="ID", help="id of a held item, or its beginning")
    person = argparse.ArgumentParser(add_help=False)
    person.add_argument("--as", dest="person", metavar="ADDRESS", required=True, help="your address in the directory")
    person.add_argument("--digest", default="", help="SHA-256 of the message you looked at, or its beginning")

    listing = actions.add_parser("list", parents=[common], help="what waits, oldest first")
    listing.add_argument("--queue", default="", help="only this queue")
    states = ", ".join(State)
    listing.add_argument(
        "--state", choices=[*State, "all"], metavar="STATE", help=f"{states}, or all; without: open ones"
    )
    show = actions.add_parser("show", parents=[item], help="one item; subject and body for its approvers")
    show.add_argument("--as", dest="person", metavar="ADDRESS", default="", help="your address in the directory")
    show.add_argument("--body", action="store_true", help="the message itself; this is recorded")
    approve = actions.add_parser("approve", parents=[item, person], help="say yes")
    approve.add_argument("--role", default="", help="the role you fill, when you hold several")
    approve.add_argument("--comment", default="")
    reject = actions.add_parser("reject", parents=[item, person], help="say no: it goes back to its sender")
    reject.add_argument("--reason", required=True, help="the sender reads this")
    release = actions.add_parser("release", parents=[item, person], help="say yes where one person is enough")
    release.add_argument("--comment", default="")
    actions.add_parser("history", parents=[item], help="everything that happened to an item")
    actions.add_parser("verify", parents=[common], help="check that no event was altered")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what ``args`` says; 0 when it worked, 1 with a word on standard error when it did not."""
    try:
        return asyncio.run(_run(args, settings))
    except CivicgateError as error:
        return complain(str(error))


async def _run(args: argparse.Namespace, settings: Settings) -> int:
    hold = await open_hold(settings, load_directory(settings.policy.directory))
    try:
        if hasattr(args, "id"):
            args.id = await hold.resolve(args.id)
        return await _ACTIONS[args.action](args, hold)
    finally:
        await hold.close()


async def _list(args: argparse.Namespace, hold: Hold) -> int:
    states = tuple(State) if args.state == "all" else (State(args.state),) if args.state else ()
    items = await hold.list(queue=args.queue, states=states)
    if args.json:
        print_json([_plain(item) for item in items])
        return 0
    if not items:
        print("Nothing is held." if not (args.state or args.queue) else "Nothing like that is held.")
        return 0
    now = datetime.now(UTC)
    rows = [
        (
            item.id,
            item.queue,
            item.message.reverse_path or "<>",
            _to(item),
            in_words(item.message.size),
            span(now - item.created),
            span(item.expires - now) if item.state is State.HELD else "",
            item.state,
        )
        for item in items
    ]
    head = ("ID", "QUEUE", "FROM", "TO", "SIZE", "AGE", "LEFT", "STATE")
    held = all(item.state is State.HELD for item in items)  # as nearly always: the place is needed
    print(table(head[:-1], [row[:-1] for row in rows]) if held else table(head, rows))
    return 0


async def _show(args: argparse.Namespace, hold: Hold) -> int:
    if args.body and not args.person:
        return complain("The body is for approvers: say who you are (--as ADDRESS).")
    reading = await hold.desk.read(args.id)
    approver = bool(args.person) and bool(await hold.desk.entitled(args.id, args.person))
    body = await _body(args, hold) if args.body else None
    if args.json:
        plain = _plain(reading.item) | {"needs": _needs(reading), "approvals": _approvals(reading)}
        plain |= {"subject": reading.item.message.subject} if approver else {}
        plain |= {"body_base64": base64.b64encode(body).decode()} if body is not None else {}
        print_json(plain)
        return 0
    for name, value in _sheet(reading, approver=approver):
        print(f"{name + ':':<12}{shown(value, 300)}")
    if body is not None:
        print()
        sys.stdout.flush()
        sys.stdout.buffer.write(_harmless(body) if sys.stdout.isatty() else body)
    return 0


async def _body(args: argparse.Namespace, hold: Hold) -> bytes:
    item = await hold.desk.view(args.id, args.person, os_user())
    kept = bytearray()
    await hold.body(item, kept.extend)
    return bytes(kept)


def _harmless(body: bytes) -> bytes:
    """For a terminal: no control characters but line feeds and tabs."""
    text = body.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text).encode()


async def _approve(args: argparse.Namespace, hold: Hold) -> int:
    order = Order(args.id, args.person, args.role, args.comment, os_user(), args.digest)
    return _told(args, await hold.desk.approve(order))


async def _release(args: argparse.Namespace, hold: Hold) -> int:
    order = Order(args.id, args.person, "", args.comment, os_user(), args.digest)
    return _told(args, await hold.desk.approve(order, alone=True))


async def _reject(args: argparse.Namespace, hold: Hold) -> int:
    order = Order(args.id, args.person, "", args.reason, os_user(), args.digest)
    return _told(args, await hold.desk.reject(order))


def _told(args: argparse.Namespace, outcome: Outcome) -> int:
    if args.json:
        needs = [{"role": slot.role, "people": sorted(slot.people)} for slot in outcome.missing]
        print_json(_plain(outcome.item) | {"changed": outcome.changed, "needs": needs, "text": outcome.text})
        return 0
    print(f"Message from {shown(outcome.item.message.reverse_path or '<>')}, SHA-256 {outcome.item.message.sha256}")
    print(outcome.text)
    return 0


async def _history(args: argparse.Namespace, hold: Hold) -> int:
    entries = await hold.history(args.id)
    if args.json:
        names = ("seq", "item", "at", "actor", "os_user", "event", "comment", "hash")
        print_json([{name: getattr(entry, name) for name in names} for entry in entries])
        return 0
    rows = [(moment(e.at), e.event, e.actor, e.os_user) for e in entries]
    lines = table(("WHEN", "EVENT", "WHO", "LOGIN"), rows).splitlines()
    print(lines[0])
    for line, entry in zip(lines[1:], entries, strict=True):
        print(line + (f"\n    {shown(entry.comment, 2000)}" if entry.comment else ""))
    return 0


async def _verify(args: argparse.Namespace, hold: Hold) -> int:
    count, last = await hold.verify_events()
    if args.json:
        print_json({"events": count, "hash": last})
    else:
        print(
            f"{count} events, none altered. Last hash (note it elsewhere to prove that none is cut off later):\n{last}"
        )
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace, Hold], Awaitable[int]]] = {
    "list": _list,
    "show": _show,
    "approve": _approve,
    "reject": _reject,
    "release": _release,
    "history": _history,
    "verify": _verify,
}


def _to(item: HeldItem) -> str:
    first, more = item.recipients[0].address, len(item.recipients) - 1
    return f"{first} +{more}" if more else first


def _plain(item: HeldItem) -> dict[str, object]:
    """For programs: metadata only."""
    facts = item.message
    return {
        "id": item.id,
        "state": item.state,
        "queue": item.queue,
        "round": item.round,
        "transaction": facts.id,
        "sender": facts.reverse_path,
        "recipients": [recipient.address for recipient in item.recipients],
        "lists": list_ids(item.recipients),
        "people": item.audience,
        "size": facts.size,
        "sha256": facts.sha256,
        "message_id": facts.message_id,
        "rules": list(dict.fromkeys(order.rule for order in item.orders)),
        "reasons": [order.reason for order in item.orders],
        "transforms": [transform.kind for transform in item.transforms],
        "received": facts.received,
        "held_since": item.created,
        "changed": item.changed,
        "expires": item.expires,
    }


def _needs(reading: Reading) -> list[dict[str, object]]:
    if reading.item.state is not State.HELD:
        return []
    return [{"role": slot.role, "people": sorted(slot.people), "fallback": slot.fallback} for slot in reading.missing()]


def _approvals(reading: Reading) -> list[dict[str, object]]:
    return [
        {
            "person": d.person,
            "verdict": d.verdict,
            "roles": d.roles,
            "at": d.at,
            "comment": d.comment,
            "digest": d.digest,
        }
        for d in reading.said
    ]


def _sheet(reading: Reading, *, approver: bool) -> list[tuple[str, str]]:
    item, facts = reading.item, reading.item.message
    subject = facts.subject if approver else "(for approvers: add --as ADDRESS)"
    rows = [
        ("Item", item.id),
        ("State", f"{item.state} since {moment(item.changed)}"),
        ("Queue", item.queue),
        ("From", facts.reverse_path or "<> (automatic message)"),
        ("To", ", ".join(recipient.address for recipient in item.recipients)),
        ("Lists", ", ".join(list_ids(item.recipients)) or "(none)"),
        ("People", str(item.audience or "(not known)")),
        ("Subject", subject),
        ("Size", in_words(facts.size)),
        ("Message-ID", facts.message_id),
        ("SHA-256", facts.sha256),
        ("Received", moment(facts.received)),
        ("Expires", moment(item.expires)),
    ]
    rows += [("Why", f"{order.rule}: {order.reason}") for order in item.orders]
    rows += [("On release", str(transform.kind)) for transform in item.transforms]
    rows += [("Said", f"{d.verdict} by {d.person}, {moment(d.at)} {d.comment}") for d in reading.said]
    if item.state is State.HELD:
        rows += [("Needs", f"{s.role}: {', '.join(sorted(s.people)) or 'nobody!'}") for s in reading.missing()]
    return rows

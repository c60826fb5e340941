"""Held mail on a terminal and for programs: lists, one item, its history.

Refuses to show subject or body to anybody but an approver of the item and its sender; reading a body is an event in its
history.
"""

import argparse
import base64
import sys
from datetime import UTC, datetime

from gateway.cli.columns import complain, moment, os_user, print_json, shown, span, table
from gateway.errors import OperatorError
from gateway.hold import HeldItem, Hold, State
from gateway.hold.listing import Sort, Wanted
from gateway.hold.post import in_words
from gateway.hold.reading import Reading, who
from gateway.hold.values import list_ids
from gateway.source import parse_duration

PAGE = 500
"""Items that are read at a time."""


async def listed(args: argparse.Namespace, hold: Hold) -> int:
    """``hold list``."""
    items = await _found(args, hold)
    if args.json:
        print_json([plain(item) for item in items])
        return 0
    if not items:
        print("Nothing is held." if _wanted(args) == Wanted() else "Nothing like that is held.")
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
    for item in items:
        if item.unreadable:
            complain(shown(f"Note: {item.unreadable}", 300))
    return 0


async def _found(args: argparse.Namespace, hold: Hold) -> list[HeldItem]:
    """All that the filters find, up to ``--limit``."""
    wanted, found, after = _wanted(args), list[HeldItem](), ""
    while len(found) < args.limit:
        most = min(PAGE, args.limit - len(found))
        page = await hold.listing.page(wanted, sort=Sort(args.sort), descending=args.reverse, most=most, after=after)
        found += page.items
        after = page.next
        if not after:
            break
    return found


def _wanted(args: argparse.Namespace) -> Wanted:
    states = tuple(State) if args.state == "all" else (State(args.state),) if args.state else ()
    return Wanted(
        states=states,
        queue=args.queue,
        rule=args.rule,
        text=args.text,
        sender=args.sender,
        recipient=args.recipient,
        since=_ago(args.newer_than, "--newer-than"),
        before=_ago(args.older_than, "--older-than"),
        waiting_for=args.waiting_for,
    )


def _ago(text: str, option: str) -> datetime | None:
    try:
        return datetime.now(UTC) - parse_duration(text) if text else None
    except (ValueError, OverflowError) as error:
        raise OperatorError(f"{option} {text} {error}.") from error


async def show(args: argparse.Namespace, hold: Hold) -> int:
    """``hold show``."""
    if args.body and not args.person:
        return complain("The body is for approvers and the sender: say who you are (--as ADDRESS).")
    reading = await hold.desk.read(args.id)
    permission = await hold.desk.permission(args.id, args.person)
    if args.person and not permission:
        raise OperatorError(f"{permission.reason} {who(reading.slots)}")
    approver = permission.allowed
    body = await _body(args, hold) if args.body else None
    if args.json:
        facts = plain(reading.item) | {"needs": _needs(reading), "approvals": _approvals(reading)}
        facts |= {"subject": reading.item.message.subject} if approver else {}
        facts |= {"body_base64": base64.b64encode(body).decode()} if body is not None else {}
        print_json(facts)
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


async def history(args: argparse.Namespace, hold: Hold) -> int:
    """``hold history``."""
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


async def verify(args: argparse.Namespace, hold: Hold) -> int:
    """``hold verify``."""
    count, last = await hold.verify_events()
    if args.json:
        print_json({"events": count, "hash": last})
    else:
        print(
            f"{count} events, none altered. Last hash (note it elsewhere to prove that none is cut off later):\n{last}"
        )
    return 0


def _to(item: HeldItem) -> str:
    first, more = item.recipients[0].address, len(item.recipients) - 1
    return f"{first} +{more}" if more else first


def plain(item: HeldItem) -> dict[str, object]:
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
        "attestations": item.attestations,
        "received": facts.received,
        "held_since": item.created,
        "asked": item.asked,
        "escalated": item.escalated,
        "changed": item.changed,
        "expires": item.expires,
        "unreadable": item.unreadable,
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
    subject = facts.subject if approver else "(for approvers and the sender: add --as ADDRESS)"
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
    if item.state is State.ATTESTING:
        rows += [("Confirm", text) for text in item.attestations]
    rows += [("On release", str(transform.kind)) for transform in item.transforms]
    rows += [("Said", f"{d.verdict} by {d.person}, {moment(d.at)} {d.comment}") for d in reading.said]
    if item.state is State.HELD:
        rows += [("Needs", f"{s.role}: {', '.join(sorted(s.people)) or 'nobody!'}") for s in reading.missing()]
    return rows

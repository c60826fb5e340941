"""``civicgate hold``: list, show, approve, reject, release, allow, withdraw, attest, comment, history, verify.

Refuses to show subject or body to anybody but an approver of the item and its sender; reading a body is an event in its
history. Several ids are several decisions: each is done or not by itself, with its own line.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from gateway.cli import held
from gateway.cli.columns import complain, os_user, print_json, shown, table
from gateway.cli.exception import parse_until
from gateway.directory import load_directory
from gateway.errors import CivicgateError, OperatorError
from gateway.hold import Hold, Outcome, State, open_hold
from gateway.hold.allowing import Allowance
from gateway.hold.decide import Order, Rest, Row
from gateway.hold.listing import Sort
from gateway.settings import Settings
from gateway.source import parse_size

MOST = 10_000
"""Items that a list shows unless told otherwise."""


def register(subparsers: Any) -> None:
    """Add ``hold`` and its sub-commands to the main command's parser."""
    hold = subparsers.add_parser("hold", help="held mail: list, show, approve, reject, release, withdraw, history …")
    actions = hold.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="output for programs")
    item = argparse.ArgumentParser(add_help=False, parents=[common])
    item.add_argument("id", metavar="ID", help="id of a held item, or its beginning")
    items = argparse.ArgumentParser(add_help=False, parents=[common])
    items.add_argument("ids", metavar="ID", nargs="+", help="ids of held items, or their beginnings")
    person = argparse.ArgumentParser(add_help=False)
    person.add_argument("--as", dest="person", metavar="ADDRESS", required=True, help="your address in the directory")
    person.add_argument("--digest", default="", help="SHA-256 of the message you looked at, or its beginning")
    comment = argparse.ArgumentParser(add_help=False)
    comment.add_argument("--comment", default="", help="kept in the item's history")
    _reading(actions, common, item)
    _deciding(actions, item, items, person, comment)


def _reading(actions: Any, common: argparse.ArgumentParser, item: argparse.ArgumentParser) -> None:
    listing = actions.add_parser("list", parents=[common], help="what waits, oldest first")
    states = ", ".join(State)
    listing.add_argument("--queue", default="", help="only this queue")
    listing.add_argument(
        "--state", choices=[*State, "all"], metavar="STATE", help=f"{states}, or all; without: open ones"
    )
    listing.add_argument("--rule", default="", help="held by this rule")
    listing.add_argument("--sender", default="", help="part of the sender's address")
    listing.add_argument("--recipient", default="", help="part of a recipient's address")
    listing.add_argument("--text", default="", help="part of an id, an address or the Message-ID")
    listing.add_argument("--older-than", default="", metavar="AGE", help="held longer ago than 4 h, 2 d …")
    listing.add_argument("--newer-than", default="", metavar="AGE", help="held since 4 h, 2 d … ago")
    listing.add_argument("--waiting-for", default="", metavar="ADDRESS", help="what this person can decide and has not")
    listing.add_argument("--sort", choices=list(Sort), default=Sort.CREATED, help="default: %(default)s")
    listing.add_argument("--reverse", action="store_true", help="the other way round")
    listing.add_argument("--limit", type=int, default=MOST, help="at most so many (default: %(default)s)")
    show = actions.add_parser(
        "show", parents=[item], help="one item; subject and body for its approvers and its sender"
    )
    show.add_argument("--as", dest="person", metavar="ADDRESS", default="", help="your address in the directory")
    show.add_argument("--body", action="store_true", help="the message itself; this is recorded")
    actions.add_parser("history", parents=[item], help="everything that happened to an item")
    actions.add_parser("verify", parents=[common], help="check that no event was altered")


def _deciding(
    actions: Any,
    item: argparse.ArgumentParser,
    items: argparse.ArgumentParser,
    person: argparse.ArgumentParser,
    comment: argparse.ArgumentParser,
) -> None:
    approve = actions.add_parser("approve", parents=[items, person, comment], help="say yes")
    approve.add_argument("--role", default="", help="the role you fill, when you hold several")
    reject = actions.add_parser("reject", parents=[items, person], help="say no: it goes back to its sender")
    reject.add_argument("--reason", dest="comment", required=True, help="the sender reads this")
    release = actions.add_parser(
        "release", parents=[item, person, comment], help="say yes where one person is enough, or for some recipients"
    )
    release.add_argument("--only", action="append", default=[], metavar="ADDRESS", help="to this recipient (repeat it)")
    release.add_argument(
        "--rest", choices=list(Rest), default=Rest.HOLD, help="the other recipients: hold (default) or reject"
    )
    release.add_argument("--reason", default="", help="with --rest reject: the sender reads this")
    allow = actions.add_parser("allow", parents=[item, person, comment], help="say yes, and let the like pass until …")
    allow.add_argument(
        "--until", required=True, metavar="WHEN", help="2026-12-01, 2026-12-01T17:00 (local time), or 7d"
    )
    allow.add_argument(
        "--recipient", action="append", default=[], metavar="WHO", help="address, @domain or *; default: the item's"
    )
    allow.add_argument("--max-size", metavar="SIZE", help="e.g. 200 MB: no message above this")
    allow.add_argument("--once", action="store_true", help="for one more message only")
    actions.add_parser("withdraw", parents=[items, person, comment], help="take back what you sent")
    actions.add_parser("attest", parents=[items, person], help="confirm what a rule asks of you as the sender")
    note = actions.add_parser("comment", parents=[items, person], help="a word for the history, without a decision")
    note.add_argument("--text", dest="comment", required=True, help="what to note")


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


async def _many(args: argparse.Namespace, hold: Hold) -> int:
    """One verb for one item or several."""
    role = getattr(args, "role", "")
    comment = getattr(args, "comment", "")
    if len(args.ids) == 1:
        ident = await hold.resolve(args.ids[0])
        (row,) = await hold.desk.bulk(args.action, [_order(args, ident, role, comment)])
        if row.outcome is None:
            raise OperatorError(row.problem)
        return _told(args, row.outcome)
    rows = []
    for given in args.ids:
        try:
            ident = await hold.resolve(given)
        except CivicgateError as error:
            rows.append(Row(given, None, str(error)))
            continue
        rows += await hold.desk.bulk(args.action, [_order(args, ident, role, comment)])
    return _results(args, rows)


def _order(args: argparse.Namespace, ident: str, role: str = "", comment: str = "") -> Order:
    return Order(ident, args.person, role, comment, os_user(), args.digest)


def _results(args: argparse.Namespace, rows: list[Row]) -> int:
    """One line an item; 1 when one of them could not be done."""
    failed = any(row.outcome is None for row in rows)
    if args.json:
        print_json([_result(row) for row in rows])
        return int(failed)
    cells = [(row.item, "done" if row.outcome else "NOT DONE") for row in rows]
    lines = table(("ID", "RESULT"), cells).splitlines()
    print(lines[0])
    for line, row in zip(lines[1:], rows, strict=True):
        print(f"{line}\n    {shown(row.outcome.text if row.outcome else row.problem, 500)}")
    return int(failed)


def _result(row: Row) -> dict[str, object]:
    if row.outcome is None:
        return {"id": row.item, "done": False, "text": row.problem}
    return _plain(row.outcome) | {"done": True}


async def _release(args: argparse.Namespace, hold: Hold) -> int:
    order = _order(args, args.id, comment=args.reason or args.comment)
    if args.only:
        return _told(args, await hold.desk.release_some(order, args.only, Rest(args.rest)))
    return _told(args, await hold.desk.approve(order, alone=True))


async def _allow(args: argparse.Namespace, hold: Hold) -> int:
    try:
        size = None if args.max_size is None else parse_size(args.max_size)
    except ValueError as error:
        raise OperatorError(f"--max-size {args.max_size} {error}.") from error
    until = parse_until(args.until, datetime.now(UTC))
    allow = Allowance(until, tuple(args.recipient), size, args.once)
    return _told(args, await hold.desk.release_and_allow(_order(args, args.id, comment=args.comment), allow))


def _told(args: argparse.Namespace, outcome: Outcome) -> int:
    if args.json:
        print_json(_plain(outcome))
        return 0
    print(f"Message from {shown(outcome.item.message.reverse_path or '<>')}, SHA-256 {outcome.item.message.sha256}")
    print(outcome.text)
    return 0


def _plain(outcome: Outcome) -> dict[str, object]:
    needs = [{"role": slot.role, "people": sorted(slot.people)} for slot in outcome.missing]
    return held.plain(outcome.item) | {"changed": outcome.changed, "needs": needs, "text": outcome.text}


_ACTIONS: dict[str, Callable[[argparse.Namespace, Hold], Awaitable[int]]] = {
    "list": held.listed,
    "show": held.show,
    "approve": _many,
    "reject": _many,
    "release": _release,
    "allow": _allow,
    "withdraw": _many,
    "attest": _many,
    "comment": _many,
    "history": held.history,
    "verify": held.verify,
}

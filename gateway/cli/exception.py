"""``civicgate exception``: add, list, revoke. An exception record is the written approval that the policy asks for."""

import argparse
import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, time
from typing import Any

from gateway.cli.columns import complain, moment, os_user, print_json, table
from gateway.directory import load_directory
from gateway.errors import CivicgateError, OperatorError
from gateway.hold import Hold, open_hold
from gateway.model.envelope import ExceptionRecord
from gateway.settings import Settings
from gateway.source import parse_duration, parse_size


def register(subparsers: Any) -> None:
    """Add ``exception`` and its sub-commands to the main command's parser."""
    exception = subparsers.add_parser("exception", help="approved exceptions to rules: add, list, revoke")
    actions = exception.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="output for programs")
    add = actions.add_parser("add", parents=[common], help="record an approved exception")
    add.add_argument("--kind", required=True, help="what a rule's «unless: exception:» names, e.g. large-message")
    add.add_argument("--sender", required=True, help="address, @domain or *")
    add.add_argument("--recipient", required=True, help="address, @domain or *")
    add.add_argument("--until", required=True, metavar="WHEN", help="2026-12-01, 2026-12-01T17:00 (local time), or 7d")
    add.add_argument("--reason", required=True)
    add.add_argument("--approver", required=True, help="who approved it")
    add.add_argument("--once", action="store_true", help="for one message only")
    add.add_argument("--max-size", metavar="SIZE", help="e.g. 200 MB: no message above this, exception or not")
    listing = actions.add_parser("list", parents=[common], help="those that hold now")
    listing.add_argument("--all", action="store_true", help="used up, over and revoked ones too")
    revoke = actions.add_parser("revoke", parents=[common], help="end one at once")
    revoke.add_argument("id", metavar="ID", help="id, or its beginning")
    revoke.add_argument("--comment", default="")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what ``args`` says; 0 when it worked, 1 with a word on standard error when it did not."""
    try:
        if args.action == "add":
            _warn(args, settings)
        return asyncio.run(_run(args, settings))
    except CivicgateError as error:
        return complain(str(error))


def _warn(args: argparse.Namespace, settings: Settings) -> None:
    """Say it when no rule asks for such a record (one may come later), or its approver is a stranger."""
    from gateway.app import load_policy  # noqa: PLC0415 - only this action needs the rules

    try:
        rules, directory, _ = load_policy(settings)
    except CivicgateError:
        return  # rules that are being edited must not keep anybody from recording an approval
    kinds = sorted({node.kind for rule in rules.active for node in rule.exceptions})
    if args.kind not in kinds:
        complain(f"Note: no rule asks for exceptions of the kind «{args.kind}»; rules know: {', '.join(kinds)}.")
    if directory.person(args.approver) is None:
        complain(f"Note: the directory does not know the approver {args.approver}.")


async def _run(args: argparse.Namespace, settings: Settings) -> int:
    hold = await open_hold(settings, load_directory(settings.policy.directory))
    try:
        return await _ACTIONS[args.action](args, hold)
    finally:
        await hold.close()


def parse_until(text: str, now: datetime) -> datetime:
    """``2026-12-01`` (its end), ``2026-12-01T17:00`` (local unless it has a zone), or ``7d``. Raises OperatorError."""
    try:
        if re.fullmatch(r"\d+(\.\d+)?\s*(min|h|d)", text.strip()):
            return now + parse_duration(text)
        at = datetime.fromisoformat(text.strip())
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()):
            at = datetime.combine(at.date(), time(23, 59, 59))
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise OperatorError(f"«{text}» is not a time: write 2026-12-01, 2026-12-01T17:00, or 7d.") from error


async def _add(args: argparse.Namespace, hold: Hold) -> int:
    now = datetime.now(UTC)
    try:
        max_size = None if args.max_size is None else parse_size(args.max_size)
    except ValueError as error:
        raise OperatorError(f"--max-size {args.max_size} {error}.") from error
    record = await hold.exceptions.add(
        ExceptionRecord(
            id=f"ex-{secrets.token_hex(4)}",
            kind=args.kind,
            sender=args.sender,
            recipient=args.recipient,
            reason=args.reason,
            approver=args.approver,
            created=now,
            expires=parse_until(args.until, now),
            uses_left=1 if args.once else None,
            max_size=max_size,
        ),
        os_user(),
    )
    if args.json:
        print_json(_plain(record, "active"))
    else:
        uses = "for one message" if args.once else "for any number of messages"
        print(
            f"{record.id}: {record.kind} from {record.sender} to {record.recipient} {uses} "
            f"until {moment(record.expires)}.\n"
            f"It counts within a second. End it early: civicgate exception revoke {record.id}"
        )
    return 0


async def _list(args: argparse.Namespace, hold: Hold) -> int:
    found = await hold.exceptions.list(everything=args.all)
    if args.json:
        print_json([_plain(record, state) for record, state in found])
    elif not found:
        print("There are no exceptions." if args.all else "No exception holds now. (--all shows past ones.)")
    else:
        rows = [
            (r.id, state, r.kind, r.sender, r.recipient, moment(r.expires), _uses(r), r.approver, r.reason)
            for r, state in found
        ]
        print(table(("ID", "STATE", "KIND", "SENDER", "RECIPIENT", "UNTIL", "USES", "APPROVER", "REASON"), rows))
    return 0


async def _revoke(args: argparse.Namespace, hold: Hold) -> int:
    ident = await hold.exceptions.revoke(args.id, os_user(), args.comment)
    if args.json:
        print_json({"id": ident, "state": "revoked"})
    else:
        print(f"{ident} is revoked; it counts no more within a second.")
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace, Hold], Awaitable[int]]] = {
    "add": _add,
    "list": _list,
    "revoke": _revoke,
}


def _uses(record: ExceptionRecord) -> str:
    return "any" if record.uses_left is None else f"{record.uses_left} left"


def _plain(record: ExceptionRecord, state: str) -> dict[str, object]:
    return {name: getattr(record, name) for name in ExceptionRecord.__slots__} | {"state": state}

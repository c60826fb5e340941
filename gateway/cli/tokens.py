"""``civicgate tokens``: add, list, revoke API tokens. Refuses to show one a second time: only its digest is kept."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from gateway.accounts import Accounts, open_accounts
from gateway.accounts.tokens import Scope, Token
from gateway.cli.columns import complain, moment, os_user, print_json, table
from gateway.cli.exception import parse_until
from gateway.directory import load_directory
from gateway.errors import CivicgateError, OperatorError
from gateway.model.envelope import fold
from gateway.settings import Settings
from gateway.store.events import Actor


def register(subparsers: Any) -> None:
    """Add ``tokens`` and its sub-commands to the main command's parser."""
    tokens = subparsers.add_parser("tokens", help="tokens for programs that use the API: add, list, revoke")
    actions = tokens.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="output for programs")
    add = actions.add_parser("add", parents=[common], help="make one; it is shown once")
    add.add_argument("name", metavar="NAME", help="what uses it, e.g. ticket-system")
    add.add_argument("--for", dest="person", metavar="ADDRESS", required=True, help="whom it speaks for")
    add.add_argument("--scope", choices=list(Scope), required=True, help="read, or decide (which may read, too)")
    add.add_argument("--until", required=True, metavar="WHEN", help="2027-06-30, 2027-06-30T17:00 (local time), or 90d")
    listing = actions.add_parser("list", parents=[common], help="those that can be used")
    listing.add_argument("--all", action="store_true", help="those that are over or revoked, too")
    revoke = actions.add_parser("revoke", parents=[common], help="end one at once")
    revoke.add_argument("id", metavar="ID", help="as the list shows it")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what ``args`` says; 0 when it worked, 1 with a word on standard error when it did not."""
    try:
        return asyncio.run(_run(args, settings))
    except CivicgateError as error:
        return complain(error.detail)


async def _run(args: argparse.Namespace, settings: Settings) -> int:
    if args.action == "add":
        person = load_directory(settings.policy.directory).person(args.person)
        if person is None:
            raise OperatorError(f"The directory does not know {args.person}: a token speaks for a person.")
        args.person = fold(person.address)
    accounts = await open_accounts(settings)
    try:
        return await _ACTIONS[args.action](args, accounts)
    finally:
        await accounts.close()


def _actor() -> Actor:
    return Actor("civicgate tokens", os_user())


async def _add(args: argparse.Namespace, accounts: Accounts) -> int:
    until = parse_until(args.until, datetime.now(UTC))
    secret, token = await accounts.tokens.add(args.name, args.person, Scope(args.scope), until, _actor())
    if args.json:
        print_json(_plain(token) | {"token": secret})
    else:
        print(
            f"{token.id}: «{token.name}» speaks for {token.address} ({token.scope}) until {moment(token.expires)}.\n"
            f"Send it as «Authorization: Bearer …». It is shown only now:\n{secret}"
        )
    return 0


async def _list(args: argparse.Namespace, accounts: Accounts) -> int:
    found = await accounts.tokens.list(everything=args.all)
    if args.json:
        print_json([_plain(token) for token in found])
    elif not found:
        print("There are no tokens." if args.all else "No token can be used now. (--all shows past ones.)")
    else:
        now = datetime.now(UTC)
        rows = [
            (t.id, t.state(now), t.name, t.address, t.scope, moment(t.expires), moment(t.used) if t.used else "never")
            for t in found
        ]
        print(table(("ID", "STATE", "NAME", "FOR", "SCOPE", "UNTIL", "LAST USE"), rows))
    return 0


async def _revoke(args: argparse.Namespace, accounts: Accounts) -> int:
    token = await accounts.tokens.revoke(args.id, _actor())
    if args.json:
        print_json({"id": token.id, "state": "revoked"})
    else:
        print(f"{token.id} «{token.name}» is revoked.")
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace, Accounts], Awaitable[int]]] = {
    "add": _add,
    "list": _list,
    "revoke": _revoke,
}


def _plain(token: Token) -> dict[str, object]:
    return {name: getattr(token, name) for name in Token.__slots__} | {"state": token.state(datetime.now(UTC))}

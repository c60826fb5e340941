"""``civicgate users``: the console's people: add, list, disable, passwd, grant-admin, sessions, history.

Refuses to take a password from the command line, where other people of the machine could read it: it is asked for on
the terminal, read from standard input, or set by the person through a one-time link.
"""

import argparse
import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.accounts import Accounts, open_accounts
from gateway.accounts.passwords import check
from gateway.accounts.people import Account, Administrators
from gateway.cli.columns import complain, moment, os_user, print_json, table
from gateway.directory import load_directory
from gateway.errors import CivicgateError, OperatorError
from gateway.model.envelope import fold
from gateway.settings import Settings
from gateway.store.events import Actor


def register(subparsers: Any) -> None:
    """Add ``users`` and its sub-commands to the main command's parser."""
    users = subparsers.add_parser("users", help="the console's local accounts: add, list, disable, enable, passwd")
    actions = users.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="output for programs")
    one = argparse.ArgumentParser(add_help=False, parents=[common])
    one.add_argument("address", metavar="ADDRESS", help="the person's address in the directory")
    secret = argparse.ArgumentParser(add_help=False)
    secret.add_argument("--link", action="store_true", help="print a link that sets the password, once, within a day")

    add = actions.add_parser("add", parents=[one, secret], help="make an account; asks for the password")
    add.add_argument("--admin", action="store_true", help="may administer the console")
    actions.add_parser("list", parents=[common], help="all accounts")
    actions.add_parser("passwd", parents=[one, secret], help="set another password; the person's sessions end")
    actions.add_parser("disable", parents=[one], help="no login any more, sessions and tokens stop at once")
    actions.add_parser("enable", parents=[one], help="the opposite")
    actions.add_parser("grant-admin", parents=[one], help="the account may administer the console from now on")
    actions.add_parser("revoke-admin", parents=[one], help="the opposite; refused for the last administrator")
    actions.add_parser("history", parents=[one], help="everything that happened to an account")
    actions.add_parser("reset-totp", parents=[one], help="take the second factor away, when the phone is lost")
    actions.add_parser("sessions", parents=[one], help="where a person is logged in")
    actions.add_parser("end-sessions", parents=[one], help="log a person out everywhere")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what ``args`` says; 0 when it worked, 1 with a word on standard error when it did not."""
    try:
        if hasattr(args, "address"):
            args.address = _account(args, settings)
        return asyncio.run(_run(args, settings))
    except CivicgateError as error:
        return complain(error.detail)


def _account(args: argparse.Namespace, settings: Settings) -> str:
    """The address as the directory writes it, so that an alias is no second account. Says it when it is unknown."""
    try:
        person = load_directory(settings.policy.directory).person(args.address)
    except CivicgateError:
        return fold(args.address)  # a directory that is being edited must not keep anybody from ending an account
    if person is None and args.action == "add":
        complain(f"Note: the directory does not know {args.address}: the account has no roles.")
    return fold(person.address if person else args.address)


async def _run(args: argparse.Namespace, settings: Settings) -> int:
    accounts = await open_accounts(settings)
    try:
        return await _ACTIONS[args.action](args, accounts, settings)
    finally:
        await accounts.close()


def _actor() -> Actor:
    return Actor("civicgate users", os_user())


def _password(address: str, shortest: int) -> str:
    """The new password: asked for twice on a terminal, else the first line of standard input. Raises OperatorError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"New password for {address}: ")
    check(first, address, shortest)
    if getpass.getpass("Once more: ") != first:
        raise OperatorError("The two passwords are not the same.")
    return first


async def _add(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    password = "" if args.link else _password(args.address, settings.console.password_length)
    if password or not args.link:
        check(password, args.address, settings.console.password_length)  # before there is an account
    await accounts.people.add(args.address, _actor(), admin=args.admin)
    return await _set(args, accounts, settings, password, "may log in")


async def _passwd(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    await accounts.people.get(args.address)
    password = "" if args.link else _password(args.address, settings.console.password_length)
    return await _set(args, accounts, settings, password, "has another password; all sessions are ended")


async def _set(args: argparse.Namespace, accounts: Accounts, settings: Settings, password: str, done: str) -> int:
    """Set the password, or print a link that does."""
    link = ""
    if args.link:
        secret, expires = await accounts.people.make_link(args.address, _actor())
        link = f"{settings.console.url}/setup/{secret}"
    else:
        await accounts.people.set_password(args.address, password, _actor())
    account = await accounts.people.get(args.address)
    if args.json:
        print_json(_plain(account) | ({"link": link, "link_expires": expires} if link else {}))
    elif link:
        print(f"{account.address} sets a password with this link, once, until {moment(expires)}:\n{link}")
    else:
        print(f"{account.address} {done}: {settings.console.url}")
    return 0


async def _list(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    found, sessions = await accounts.people.list(), await accounts.sessions.counts()
    roles = _roles(settings)
    if args.json:
        more = [{"sessions": sessions.get(a.address, 0), "roles": sorted(roles(a.address))} for a in found]
        print_json([_plain(account) | row for account, row in zip(found, more, strict=True)])
    elif not found:
        print("There are no accounts. Make the first: civicgate users add ADDRESS --admin")
    else:
        rows = [
            (
                a.address, _state(a), "yes" if a.admin else "", ", ".join(sorted(roles(a.address))),
                "on" if a.has_totp else "", moment(a.last_login) if a.last_login else "never",
                str(sessions.get(a.address, 0)),
            )
            for a in found
        ]  # fmt: skip
        print(table(("ADDRESS", "STATE", "ADMIN", "ROLES", "SECOND FACTOR", "LAST LOGIN", "SESSIONS"), rows))
    return 0


async def _disable(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    return _told(args, await accounts.people.disable(args.address, _actor()), "is disabled; its sessions are ended.")


async def _enable(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    return _told(args, await accounts.people.enable(args.address, _actor()), "is enabled.")


async def _grant_admin(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    return _told(args, await accounts.people.grant_admin(args.address, _actor()), "administers the console.")


async def _revoke_admin(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    holders, role = _holders(settings), settings.console.admin_role
    others = Administrators(holders, provider=bool(settings.console.oidc.issuer))
    account = await accounts.people.revoke_admin(args.address, _actor(), others)
    if account.address in holders:
        return _told(args, account, f"administers the console still, as holder of the role {role} in the directory.")
    return _told(args, account, "does not administer the console any more.")


def _holders(settings: Settings) -> frozenset[str]:
    """Who has the administrators' role in the directory; nobody while that cannot be read."""
    try:
        directory = load_directory(settings.policy.directory)
    except CivicgateError:
        return frozenset()
    role = settings.console.admin_role
    return frozenset(fold(one.address) for one in directory.people if role in directory.roles_of(one.address))


async def _reset_totp(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    account = await accounts.people.reset_totp(args.address, _actor())
    return _told(args, account, "has no second factor any more; its sessions are ended.")


def _roles(settings: Settings) -> Callable[[str], frozenset[str]]:
    """Roles by address, none while the directory cannot be read."""
    try:
        directory = load_directory(settings.policy.directory)
    except CivicgateError:
        return lambda address: frozenset()
    return directory.roles_of


async def _sessions(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    found = await accounts.sessions.list(args.address)
    names = ("id", "method", "stage", "client", "agent", "created", "seen", "expires")
    if args.json:
        print_json([{name: getattr(session, name) for name in names} for session in found])
    elif not found:
        print(f"{args.address} is not logged in.")
    else:
        rows = [(moment(s.created), moment(s.seen), s.client, str(s.method), s.agent) for s in found]
        print(table(("SINCE", "LAST CLICK", "FROM", "WAY IN", "BROWSER"), rows))
    return 0


async def _end_sessions(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    ended = await accounts.sessions.end_all(args.address, _actor())
    if args.json:
        print_json({"address": args.address, "ended": ended})
    else:
        print(f"{args.address} {'is logged out everywhere' if ended else 'was not logged in'}.")
    return 0


async def _history(args: argparse.Namespace, accounts: Accounts, settings: Settings) -> int:
    found = await accounts.history(args.address)
    if args.json:
        names = ("seq", "at", "actor", "os_user", "event", "comment", "hash")
        print_json([{name: getattr(entry, name) for name in names} for entry in found])
    elif not found:
        print(f"Nothing is recorded of {args.address}.")
    else:
        rows = [(moment(e.at), e.event, e.actor, e.os_user, e.comment) for e in found]
        print(table(("WHEN", "EVENT", "WHO", "FROM", "COMMENT"), rows))
    return 0


def _told(args: argparse.Namespace, account: Account, text: str) -> int:
    if args.json:
        print_json(_plain(account))
    else:
        print(f"{account.address} {text}")
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace, Accounts, Settings], Awaitable[int]]] = {
    "add": _add,
    "list": _list,
    "passwd": _passwd,
    "disable": _disable,
    "enable": _enable,
    "grant-admin": _grant_admin,
    "revoke-admin": _revoke_admin,
    "reset-totp": _reset_totp,
    "sessions": _sessions,
    "end-sessions": _end_sessions,
    "history": _history,
}


def _state(account: Account) -> str:
    return "disabled" if account.disabled else "active" if account.has_password else "no password yet"


def _plain(account: Account) -> dict[str, object]:
    return {name: getattr(account, name) for name in Account.__slots__} | {"state": _state(account)}

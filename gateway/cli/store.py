"""``civicgate store``: check, migrate, rotate-key, copy. For the administrator of the machine."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.cli.columns import print_json
from gateway.errors import OperatorError, StoreError
from gateway.settings import Settings, StoreSettings
from gateway.store.checkup import Answer, check
from gateway.store.copying import copy
from gateway.store.database import Database
from gateway.store.migrations import HEAD
from gateway.store.opening import open_database, open_store, place, server
from gateway.store.rotation import Rotation


def register(subparsers: Any) -> None:
    """Add ``store`` and its sub-commands to the main command's parser."""
    store = subparsers.add_parser("store", help="database, bodies and keys: check, migrate, rotate-key, copy")
    actions = store.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="output for programs")
    checking = actions.add_parser("check", parents=[common], help="is everything there, whole, and can it be opened")
    checking.add_argument("--quick", action="store_true", help="bodies by their beginning only")
    actions.add_parser("migrate", parents=[common], help="make or upgrade the database's schema (a start does so too)")
    rotate = actions.add_parser("rotate-key", parents=[common], help="a new key for the bodies; gateways may run")
    step = rotate.add_mutually_exclusive_group()
    step.add_argument("--prepare", action="store_true", help="only put a new key into the key file, to be copied")
    step.add_argument("--drop-old", action="store_true", help="take the old key out of use, an hour later")
    rotate.add_argument("--at-once", action="store_true", help="with --drop-old, while no gateway runs")
    copying = actions.add_parser("copy", parents=[common], help="from SQLite to PostgreSQL; no gateway may run")
    copying.add_argument("to", metavar="URL", help="postgresql://USER@HOST:PORT/NAME")
    copying.add_argument("--password-file", type=Path, default=None, help="file with the password alone")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what the command line says. Raises CivicgateError."""
    actions = {"check": _check, "migrate": _migrate, "rotate-key": _rotate, "copy": _copy}
    return asyncio.run(actions[args.action](args, settings.store))


async def _check(args: argparse.Namespace, settings: StoreSettings) -> int:
    answers = await _answers(settings, quick=args.quick)
    good = all(answer.good for answer in answers)
    if args.json:
        listed = [{"check": a.name, "good": a.good, "text": a.text, "ids": a.ids} for a in answers]
        print_json({"good": good, "checks": listed})
    else:
        for answer in answers:
            print(f"{'ok ' if answer.good else 'BAD'}  {answer.name}: {answer.text}")
    return 0 if good else 1


async def _answers(settings: StoreSettings, *, quick: bool) -> list[Answer]:
    try:
        database, bodies = await open_store(settings)
    except StoreError as error:
        return [Answer("open", False, error.detail)]
    try:
        return [answer async for answer in check(database, bodies, quick=quick)]
    finally:
        await database.close()


async def _migrate(args: argparse.Namespace, settings: StoreSettings) -> int:
    database = await open_database(settings)
    await database.close()
    if args.json:
        print_json({"database": database.kind.place, "revision": HEAD})
    else:
        print(f"{database.kind.place} has the schema of this version ({HEAD}).")
    return 0


async def _rotate(args: argparse.Namespace, settings: StoreSettings) -> int:
    database, bodies = await open_store(settings)
    try:
        rotation = Rotation(database, bodies)
        if args.prepare:
            return _prepared(args, await rotation.prepare(), bodies.keys.place)
        done = await (rotation.drop(at_once=args.at_once) if args.drop_old else rotation.rotate())
    finally:
        await database.close()
    if args.json:
        print_json(
            {"key": done.key, "since": done.since, "sealed": done.done, "damaged": done.damaged, "old": done.old}
        )
    else:
        print(f"{done.key} seals new mail. Sealed anew now: {done.done}; all other bodies were already.")
        for name in done.damaged:
            print(f"No key opens {name}: it was left as it is.", file=sys.stderr)
        if done.old:
            print("Keep a copy of the new key. An hour from now: civicgate store rotate-key --drop-old")
        else:
            print(f"{bodies.keys.place} holds this key alone; remove others from copies of it.")
    return 1 if done.damaged else 0


def _prepared(args: argparse.Namespace, public: str, where: str) -> int:
    if args.json:
        print_json({"key": public, "file": where})
    else:
        print(f"{public} is in {where}. Copy it to every other node, then: civicgate store rotate-key")
    return 0


async def _copy(args: argparse.Namespace, settings: StoreSettings) -> int:
    if settings.database != "sqlite":
        raise OperatorError("store.database is PostgreSQL already; what can be copied is SQLite's file.")
    try:
        wanted = StoreSettings.model_validate({"database": args.to})
    except ValidationError as error:
        raise OperatorError(f"The target {error.errors(include_input=False)[0]['msg'].partition(', ')[2]}.") from None
    if not isinstance(at := place(settings), Path) or not at.exists():
        raise OperatorError(f"There is no {settings.directory / 'store.db'} to be copied.")
    target = await Database.open(server(wanted.database, args.password_file))
    try:
        source = await open_database(settings)
        try:
            counts = await copy(source, target)
        finally:
            await source.close()
    finally:
        await target.close()
    if args.json:
        print_json({"to": target.kind.place, "rows": counts})
    else:
        print(
            f"Copied {sum(counts.values())} rows to {target.kind.place}. Set store.database to it; {at} is closed now."
        )
    return 0

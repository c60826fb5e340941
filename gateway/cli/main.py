"""Takes the command line apart and calls one sub-command.

Exit codes: 0 done, 1 it could not be done (said on standard error), 2 the command line itself is wrong.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from gateway import __version__
from gateway.errors import CivicgateError
from gateway.settings import Settings, load_settings

DEFAULT_CONFIG = Path("config/gateway.yaml")
COMMANDS = ("run", "check", "explain", "hold", "exception", "store", "users", "tokens", "health", "schema")
"""Modules of this package, each with ``register(subparsers)`` and ``run(args, settings) -> int``."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nTry «{self.prog} --help».\n")


def parser(only: str = "") -> argparse.ArgumentParser:
    """The whole command line, or that of one sub-command.

    Only what is used is imported: ``hold list`` need not wait for what ``run`` needs, and ``run`` must decide where
    processes share their metrics before anything imports them.
    """
    top = _Parser(prog="civicgate", description="An email gateway that makes a city's written email policy happen.")
    top.add_argument("--version", action="version", version=f"civicgate {__version__}")
    top.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="settings (default: %(default)s)")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name in (only,) if only else COMMANDS:
        module: ModuleType = importlib.import_module(f"gateway.cli.{name}")
        module.register(commands)
        sub = commands.choices[name]
        sub.set_defaults(_run=module.run)
        sub.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return top


def _chosen(arguments: Sequence[str]) -> str:
    """The sub-command, when it is plain which one is meant; ``""`` leaves everything to the whole parser."""
    words = list(arguments)
    while words and words[0].startswith("--config"):
        words = words[1:] if "=" in words[0] else words[2:]
    return words[0] if words and words[0] in COMMANDS else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    args = parser(_chosen(given)).parse_args(given)
    command: Callable[[argparse.Namespace, Settings], int] = args._run  # noqa: SLF001 - our own attribute
    try:
        return command(args, load_settings(args.config))
    except CivicgateError as error:
        print(error.detail, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0

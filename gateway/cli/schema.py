"""``civicgate schema``: the JSON Schema of a rule file, for editors."""

import argparse
import json
from typing import Any

from gateway.policy import schema
from gateway.settings import Settings


def register(commands: Any) -> None:
    """Add the sub-command."""
    commands.add_parser("schema", help="print the JSON Schema of rule files, for editors")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print it."""
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0

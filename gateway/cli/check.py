"""``civicgate check``: settings, directory, rules, types and clauses are read, and every case is run.

Needs no server. Exit code 1 when anything is wrong; every problem is printed with file and line.
"""

import argparse
import sys
from typing import Any

from gateway.app import load_policy
from gateway.checks.passive import PASSIVE, Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.checks.scanner import Scanner
from gateway.model.envelope import Client, Envelope, Sender
from gateway.model.finding import Check, Confidence, Findings, Questions
from gateway.policy import InformationType
from gateway.policy.cases import run_cases
from gateway.policy.clauses import load_clauses, unknown_clauses
from gateway.settings import InspectionSettings, Settings


def register(commands: Any) -> None:
    """Add the sub-command."""
    sub = commands.add_parser("check", help="check settings, directory, rules and all their cases; exit code 0 or 1")
    sub.add_argument("-v", "--verbose", action="store_true", help="name every case")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run all cases. ConfigErrors go up: what cannot be read cannot be tried."""
    rules, directory, types = load_policy(settings)
    scanner = Scanner(types)
    failed = total = 0

    def look(message: bytes, envelope: Envelope, questions: Questions) -> Findings:
        return passive_findings(message, envelope, questions, scanner, settings.inspection)

    for result in run_cases(rules, look):
        total += 1
        if result.problems:
            failed += 1
            print(result, file=sys.stderr)
        elif args.verbose:
            print(f"ok  {result}")
    for problem in _type_problems(types, scanner):
        failed += 1
        print(problem, file=sys.stderr)
    for unknown in unknown_clauses(settings.policy.rules, load_clauses(settings.policy.clauses)):
        failed += 1
        print(unknown, file=sys.stderr)
    if any(rule.hold for rule in rules.active) and settings.hold.fallback_role not in directory.role_names:
        failed += 1
        print(f"hold.fallback_role: no role «{settings.hold.fallback_role}» in the directory", file=sys.stderr)
    total += sum(len(kind.cases) for kind in types)
    people = len(directory.people)
    print(
        f"{len(rules.rules)} rules, {len(types)} information types, {people} people, "
        f"{len(directory.lists)} lists; {total} cases, {failed} failed"
    )
    return 1 if failed else 0


def passive_findings(
    message: bytes, envelope: Envelope, questions: Questions, scanner: Scanner, settings: InspectionSettings
) -> Findings:
    """What all passive checks find, without a server and without a process."""
    items = inspect(message, envelope, questions, scanner, settings, Means(readers=open_reader))
    return Findings(len(message), items, (), questions.checks & PASSIVE)


def _type_problems(types: tuple[InformationType, ...], scanner: Scanner) -> list[str]:
    problems = []
    for kind in types:
        for case in kind.cases:
            found = count_in(case.text, kind.id, case.confidence or Confidence.LOW, scanner)
            if found != case.count:
                problems.append(f"types/{kind.id}.yaml: {case.it}: expected {case.count}, found {found}")
    return problems


def count_in(text: str, kind: str, confidence: Confidence, scanner: Scanner) -> int:
    """How often a type is found in a text with at least this confidence."""
    message = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text.encode()
    asked = Questions(frozenset({Check.CONTENT}), types=frozenset({kind}))
    items = inspect(message, Envelope("case", Client(""), Sender("")), asked, scanner, InspectionSettings())
    return sum(f.count for f in items if f.check is Check.CONTENT and f.confidence >= confidence)

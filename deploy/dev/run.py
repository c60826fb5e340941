"""Starts all of it on this machine: clamd, a mail server, the gateway; sends sample mail and shows what became of it.

    python -m deploy.dev.run              stays up until Ctrl-C
    python -m deploy.dev.run --once       ends after the samples: code 0 when all came out as they must, else 1
    … --free-ports --var FOLDER           beside another one: ports that are free, everything written to FOLDER

Ends what it started, by process id, and nothing else. Not part of the product.
"""

import argparse
import asyncio
import os
import signal
import smtplib
import socket
import sys
import urllib.request
from asyncio.subprocess import Process
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from deploy.dev import clamd
from deploy.dev.mail_server import MailServer
from deploy.dev.samples import (
    ALL_CITY,
    APPROVERS,
    CITIZEN,
    RESIDENT,
    STAFF,
    Form,
    Outcome,
    Sample,
    make_certificate,
    samples,
    send,
)
from deploy.dev.table import Table
from gateway.settings import Endpoint, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path("config/gateway.yaml")
ADMINISTRATOR = "it-director@city.example"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 40.0
"""Longer than smtp.drain_timeout: the gateway may finish what it is at."""


class CannotStartError(Exception):
    """What is in the way, and what to do about it, in words."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this one runs."""

    config: Path
    settings: Settings
    var: Path

    @property
    def gateway(self) -> Endpoint:
        """Where mail goes in."""
        return self.settings.listeners[0].address

    @property
    def log(self) -> Path:
        """The gateway's log."""
        return self.var / "log" / "gateway.log"


def say(text: str = "") -> None:
    """One line to whoever watches; at once, also through a pipe."""
    print(text, flush=True)


# --- Where ---------------------------------------------------------------------------------------------------------


def place(var: Path, free_ports: bool) -> Place:
    """The configuration as it stands; with other folders or ports, a copy of it that says so."""
    if var == Path("var") and not free_ports:
        return Place(CONFIG, load_settings(CONFIG), var)
    data = YAML(typ="safe").load(CONFIG)
    _move(data, var)
    if free_ports:
        ports = _free_ports(4)
        data["listeners"][0]["address"] = f"127.0.0.1:{ports[0]}"
        data["next_hop"]["address"] = f"127.0.0.1:{ports[1]}"
        data["metrics"]["address"] = f"127.0.0.1:{ports[2]}"
        data["console"]["address"] = f"127.0.0.1:{ports[3]}"
    var.mkdir(parents=True, exist_ok=True)
    copy = var / "gateway.yaml"
    with copy.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(data, file)
    return Place(copy, load_settings(copy), var)


def _move(node: Any, var: Path) -> None:
    """Let every path that starts with var/ start with another folder."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if isinstance(value, str):
            head, colon, path = value.rpartition("unix:")
            if path.startswith("var/"):
                node[key] = f"{head}{colon}{var / path.removeprefix('var/')}"
        else:
            _move(value, var)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def check_ports(at: Place) -> None:
    """Raises CannotStartError when somebody else listens where we want to."""
    wanted = (
        ("gateway", at.gateway),
        ("mail server", at.settings.next_hop.address),
        ("metrics", at.settings.metrics.address),
        *((("console", at.settings.console.address),) if at.settings.console.enabled else ()),
    )
    for name, endpoint in wanted:
        try:
            socket.create_server((endpoint.host, endpoint.port)).close()
        except OSError as error:
            raise CannotStartError(
                f"{endpoint}, where the {name} should listen, is taken ({os.strerror(error.errno or 0)}).\n"
                f"  Who has it:        ss -ltnp 'sport = :{endpoint.port}'\n"
                "  With other ports:  make run ARGS='--free-ports --var var/second'"
            ) from error


# --- What is started -----------------------------------------------------------------------------------------------


async def start_clamd(stack: AsyncExitStack, at: Place) -> bool:
    """Start clamd. False, with words, when it is not there: the gateway then defers what it cannot scan."""
    directory = at.var / "clamd"
    database = clamd.signature_database()
    about = (
        "a tiny one that knows EICAR"
        if database == clamd.TINY_DATABASE
        else f"{database}, which takes half a minute to load"
    )
    say(f"clamd        starts, signature database: {about}")
    starting = asyncio.create_task(asyncio.to_thread(clamd.start_clamd, directory))
    try:
        process = await asyncio.shield(starting)
    except clamd.ClamdNotStartedError as error:
        say(f"clamd        NOT RUNNING: {error}")
        say(
            "             The virus control cannot answer; its rule's on_failure then defers every message (451 4.7.1)."
        )
        return False
    except asyncio.CancelledError:
        with suppress(OSError, ValueError):
            os.kill(int((directory / "clamd.pid").read_text(encoding="ascii")), signal.SIGTERM)
        with suppress(clamd.ClamdNotStartedError):
            clamd.stop_clamd(await starting)
        raise
    stack.push_async_callback(asyncio.to_thread, clamd.stop_clamd, process)
    say(f"clamd        {directory / 'clamd.sock'}")
    return True


async def start_mail_server(stack: AsyncExitStack, at: Place) -> MailServer:
    """Start the mail server behind the gateway."""
    server = MailServer(at.var / "received")
    endpoint = at.settings.next_hop.address
    await server.start(endpoint.host, endpoint.port)
    stack.push_async_callback(server.stop)
    say(f"mail server  {endpoint}, keeps what it receives in {at.var / 'received'}")
    return server


async def start_gateway(stack: AsyncExitStack, at: Place) -> Process:
    """Start the gateway and wait until it answers EHLO. Raises CannotStartError with the log's last lines."""
    at.log.parent.mkdir(parents=True, exist_ok=True)
    with at.log.open("ab") as log:
        begin = log.tell()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway", "run", "--config", str(at.config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C comes to us alone; we end it when its turn has come
        )
    stack.push_async_callback(stop, process)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_TIMEOUT
    while not await asyncio.to_thread(_answers, at.gateway):
        if process.returncode is not None or loop.time() > deadline:
            ended = process.returncode is not None
            what = f"ended with code {process.returncode}" if ended else f"does not answer after {START_TIMEOUT:.0f} s"
            words = at.log.read_bytes()[begin:].decode("utf-8", "replace").splitlines()[-15:]
            raise CannotStartError("\n  ".join([f"The gateway {what}. The end of {at.log}:", *words]))
        await asyncio.sleep(0.1)
    say(f"gateway      {at.gateway}, metrics http://{at.settings.metrics.address}/metrics, log {at.log}")
    if at.settings.console.enabled:
        say(f"console      {at.settings.console.url}")
    return process


def _answers(endpoint: Endpoint) -> bool:
    try:
        with smtplib.SMTP(endpoint.host, endpoint.port, local_hostname="start.city.example", timeout=5) as smtp:
            return smtp.ehlo()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


async def stop(process: Process) -> None:
    """SIGTERM, and SIGKILL when that is not heard in time."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
    except TimeoutError:
        say(f"gateway      did not end in {STOP_TIMEOUT:.0f} s, killed")
        process.kill()
        await process.wait()


# --- What is shown -------------------------------------------------------------------------------------------------


async def send_samples(at: Place, server: MailServer) -> list[Outcome]:
    """Send each sample, wait for what must arrive, print the table."""
    certificate = make_certificate(at.settings.encryption.certificates, at.var / "demo")
    wanted = samples(os.urandom(4).hex())
    say(f"\nSending {len(wanted)} messages …\n")
    sent = [await _send_one(sample, at) for sample in wanted]

    def outcomes() -> list[Outcome]:
        return [Outcome.of(sample, reply, server.received, certificate) for sample, reply in sent]

    # What goes through the store comes a moment later; by then what must not arrive has had its chance, too.
    await server.wait(lambda _: all(outcome.all_there for outcome in outcomes()), 15)
    await asyncio.sleep(2 * at.settings.outbox.poll_interval)
    table = Table(("", 2), ("message", 25), ("what the client is told", 34), ("what arrived", 33))
    shown = outcomes()
    for row in table.head():
        say(row)
    for number, outcome in enumerate(shown, 1):
        for row in table.row(str(number), *outcome.cells()):
            say(row)
    return shown


async def _send_one(sample: Sample, at: Place) -> tuple[Sample, str]:
    return sample, await asyncio.to_thread(send, sample, at.gateway.host, at.gateway.port)


def uncounted(at: Place, sent: int) -> list[str]:
    """Whether Prometheus would see as many messages as were sent, whichever worker had them."""
    address = f"http://{at.settings.metrics.address}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=5) as page:
            lines = page.read().decode().splitlines()
    except OSError as error:
        return [f"{address}: {error}"]
    counted = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("civicgate_messages_total{"))
    if counted < sent:
        return [f"{address} counts {counted:.0f} messages, {sent} were sent"]
    say(f"\nmetrics: {counted:.0f} messages counted")
    return []


def suggestions(at: Place, outcomes: list[Outcome]) -> str:
    """What to try next, with ids that are there."""
    option = "" if at.config == CONFIG else f"--config {at.config} "
    command = f".venv/bin/civicgate {option}"
    held = next((o.held for o in outcomes if ALL_CITY in o.sample.recipients and o.held), "ID")
    encrypted = next((o.number for o in outcomes if o.number and Form.ENCRYPTED in dict(o.forms).values()), 0)
    received = at.var / "received"
    return f"""
Everything stays up until Ctrl-C; what arrives from now on is shown below. In another terminal:

Send a message of your own
  swaks --server {at.gateway} --from {STAFF} --to {RESIDENT} --body 'Hello'
See what is held, and let the message to all of the city pass: two people must say yes
  {command}hold list
  {command}hold approve {held} --as {APPROVERS[0]}
  {command}hold approve {held} --as {APPROVERS[1]}
Do the same in the console: {at.settings.console.url}
  {command}users add {APPROVERS[0]}      (asks for a password; --link prints a link instead)
  {command}users add {ADMINISTRATOR} --admin
Ask what would become of a message, rule by rule
  {command}explain {received}/{outcomes[0].number:05d}.eml --from {STAFF} --to {ALL_CITY}
Open what was encrypted
  openssl cms -decrypt -in {received}/{encrypted:05d}.eml -inkey {at.var}/demo/{CITIZEN}.key
Watch
  curl -s http://{at.settings.metrics.address}/metrics | grep ^civicgate_messages
  tail -f {at.log}
Change a rule in {at.settings.policy.rules}/ or a setting in {at.config}, then check it
  {command}check
"""


# --- The whole -----------------------------------------------------------------------------------------------------


async def demonstrate(options: argparse.Namespace) -> int:
    """Start, send, show, stay. Returns the exit code."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    work = asyncio.create_task(_all(options))
    end = asyncio.create_task(over.wait())
    await asyncio.wait((work, end), return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if work.done():
        return work.result()
    say("\nEnding …")
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    return 0


async def _all(options: argparse.Namespace) -> int:
    try:
        at = place(options.var, options.free_ports)
        check_ports(at)
        async with AsyncExitStack() as stack:
            server = await start_mail_server(stack, at)
            await start_clamd(stack, at)
            gateway = await start_gateway(stack, at)
            outcomes = await send_samples(at, server)
            problems = [problem for outcome in outcomes for problem in outcome.problems()]
            problems += await asyncio.to_thread(uncounted, at, len(outcomes))
            for problem in problems:
                say(f"NOT AS IT MUST BE: {problem}")
            if options.once:
                say("" if problems else "\nAll came out as it must.")
                return 1 if problems else 0
            say(suggestions(at, outcomes))
            server.show = say
            code = await gateway.wait()
            say(f"The gateway ended by itself with code {code}; see {at.log}.")
            return 1
    except CannotStartError as error:
        say(f"Cannot start: {error}")
        return 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make run", description="Starts all of it, sends sample mail, shows the outcome."
    )
    parser.add_argument("--once", action="store_true", help="end after the samples, 0 when all came out as they must")
    parser.add_argument("--free-ports", action="store_true", help="listen on ports that are free instead of the usual")
    parser.add_argument("--var", type=Path, default=Path("var"), help="folder for everything that is written")
    return asyncio.run(demonstrate(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())

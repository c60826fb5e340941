"""Starts ``civicgate`` commands quickly: imports everything once, then forks one process for each command.

A program for the tests, run as ``python -m tests.e2e.nursery``. Reads one JSON object a line on standard input, writes
one JSON object a line on standard output. ``{"run": ARGUMENTS, "log": FILE, "cwd": FOLDER}`` starts a process of its
own session and says its pid; ``{"wait": PID}`` says its exit code. What runs in the fork is the very same ``main`` that
``python -m gateway`` runs. Ends, and ends all it started, when standard input ends.
"""

import gc
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until standard input ends."""
    # the metrics decide when they are first imported whether processes share them; where they do is set at each start
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="nursery-")

    import gateway.app  # noqa: PLC0415
    import gateway.cli.exception  # noqa: PLC0415
    import gateway.cli.hold  # noqa: PLC0415
    import gateway.cli.run  # noqa: PLC0415
    import gateway.observer  # noqa: PLC0415
    import gateway.preflight  # noqa: PLC0415, F401
    from gateway.app import prepared  # noqa: PLC0415
    from gateway.settings import load_settings  # noqa: PLC0415
    from tests import compiled  # noqa: PLC0415

    compiled.share()

    prepared(load_settings(Path("config/gateway.yaml")))  # compiled once for all that run by the rules as shipped
    gc.collect()
    gc.freeze()  # so that a fork's collector neither looks through all this nor copies it by writing to it
    started: set[int] = set()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if "run" in order:
            pid = _fork(order["run"], order["log"])
            started.add(pid)
            answer: dict[str, int | None] = {"pid": pid}
        else:
            ended, status = os.waitpid(order["wait"], os.WNOHANG)
            started.discard(ended)
            answer = {"code": os.waitstatus_to_exitcode(status) if ended else None}
        print(json.dumps(answer), flush=True)
    for pid in started:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    with suppress(OSError):
        Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).rmdir()


def _fork(arguments: list[str], log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, target in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(number, target)
        from gateway.cli.main import main as civicgate  # noqa: PLC0415

        code = civicgate(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - a fork must never return into the loop above
        os.write(2, f"{error!r}\n".encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

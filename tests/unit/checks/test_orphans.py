"""No inspection process outlives its gateway."""

import subprocess
import sys
import time
from pathlib import Path


def test_processes_end_with_a_parent_that_is_killed() -> None:
    """SIGKILL of the gateway leaves no inspection process behind."""
    script = (
        "import asyncio, os, sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; import hostile_functions as bad\n"
        "from gateway.checks.inspector import Inspector; from gateway.settings import InspectionSettings\n"
        "from gateway.spool import SpooledMessage\n"
        "async def main():\n"
        "    one = Inspector(InspectionSettings(), ())\n"
        "    print(await one.run(bad.sleep, SpooledMessage.of(bytes(200000)), 0.0), flush=True)\n"
        "    await one.run(bad.loop, SpooledMessage.of(bytes(200000)))\n"
        "asyncio.run(main())\n"
    )
    here = Path(__file__).resolve()
    arguments = [sys.executable, "-c", script, str(here.parents[3]), str(here.parent / "hostile")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)

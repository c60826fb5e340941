"""A private Sendmail in a folder of its own, as Debian ships it (deploy/unpack-sendmail), that asks our milter.

It runs in a name space of its own: Sendmail waits a minute at its start on a machine whose name it cannot look up.
Refuses to read or write anything of /etc/mail.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.postfix import open_folder
from tests.e2e.running import greets, until

ROOT = Path(__file__).parents[2] / "var" / "sendmail"
PROGRAMS = (ROOT / "usr/libexec/sendmail/sendmail", ROOT / "usr/lib/sm.bin/sendmail")
MACROS = ROOT / "usr/share/sendmail/cf"

_CONFIGURATION = """\
OSTYPE(`linux')dnl
FEATURE(`nocanonify')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
define(`ALIAS_FILE',`')dnl
define(`QUEUE_DIR',`{folder}/mqueue')dnl
define(`STATUS_FILE',`{folder}/statistics')dnl
define(`confPID_FILE',`{folder}/pid')dnl
define(`confCONTROL_SOCKET_NAME',`')dnl
define(`confDOMAIN_NAME',`front.city.example')dnl
define(`confDONT_BLAME_SENDMAIL',`TrustStickyBit,GroupWritableDirPathSafe')dnl
define(`confREFUSE_LA',`1000')dnl
define(`confQUEUE_LA',`1000')dnl
define(`confDELAY_LA',`0')dnl
define(`confMAX_HEADERS_LENGTH',`1000000')dnl
define(`SMART_HOST',`relay:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS',`TCP $h {relay}')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}')dnl
INPUT_MAIL_FILTER(`civicgate', `S=unix:{socket}, F=T, T=C:30s;S:30s;R:30s;E:5m')dnl
define(`confMILTER_MACROS_CONNECT',`j, _, {{daemon_name}}, {{client_name}}, {{client_addr}}')dnl
MAILER(`smtp')dnl
"""


def installed() -> bool:
    """Whether it is unpacked and may be started."""
    return _program() is not None and shutil.which("m4") is not None and os.geteuid() == 0


def _program() -> Path | None:
    return next((path for path in PROGRAMS if path.exists()), None)


@contextlib.contextmanager
def running_sendmail(port: int, relay: int, socket: Path) -> Iterator[Path]:
    """Run it on a port, with a milter's socket, everything sent on to another port; its folder."""
    with open_folder() as folder:
        (folder / "mqueue").mkdir(mode=0o700)
        (folder / "hosts").write_text("127.0.0.1 front.city.example front localhost\n", "ascii")
        (folder / "sendmail.mc").write_text(
            _CONFIGURATION.format(folder=folder, port=port, relay=relay, socket=socket), "ascii"
        )
        made = subprocess.run(
            ["m4", f"-D_CF_DIR_={MACROS}/", str(MACROS / "m4" / "cf.m4"), str(folder / "sendmail.mc")],
            capture_output=True,
            check=True,
            timeout=30,
        )
        (folder / "sendmail.cf").write_bytes(made.stdout)
        script = (
            f"hostname front && mount --bind {folder}/hosts /etc/hosts && exec {_program()} -C {folder}/sendmail.cf -bD"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", "--uts", "--mount", "sh", "-c", script], stdout=log, stderr=log, start_new_session=True
            )
        try:
            until(lambda: greets(port), 30, f"Sendmail does not answer on {port}")
            yield folder
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)

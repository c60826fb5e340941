"""Debian's Chromium under Playwright. Refuses to download a browser."""

import os
import shutil

from playwright.async_api import Browser, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
"""``""``: the tests that need it are skipped."""


ARGUMENTS = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
"""Inside a container as root it cannot have a sandbox of its own."""


async def launch(play: Playwright) -> Browser:
    """A browser without a window."""
    return await play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

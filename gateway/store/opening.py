"""From settings to an open store: which database, and where its bodies are.

Refuses bodies that are another database's: what no row names would be swept, and what rows name would look lost.
"""

import os
from pathlib import Path

from gateway.errors import StoreError
from gateway.settings import StoreSettings
from gateway.store.database import Database
from gateway.store.postgres import Server

PASSWORD = "CIVICGATE_DATABASE_PASSWORD"  # noqa: S105 - the variable's name


def place(settings: StoreSettings) -> Path | Server:
    """The database that the settings name, with its password. Raises StoreError when the password cannot be read."""
    if settings.database == "sqlite":
        return settings.directory / "store.db"
    if settings.password_file is None:
        return Server(settings.database, os.environ.get(PASSWORD, ""))
    try:
        return Server(settings.database, settings.password_file.read_text().strip("\r\n"))
    except (OSError, UnicodeError) as error:
        raise StoreError(f"the database's password cannot be read: {error}") from error


async def open_database(settings: StoreSettings, busy_timeout: float = 10.0) -> Database:
    """Open, make or migrate the settings' database. Raises StoreError."""
    return await Database.open(place(settings), busy_timeout)

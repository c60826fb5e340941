"""The schema's revisions, run by alembic on a connection that is open already; refuses to find a database by itself."""

from pathlib import Path

from sqlalchemy import Connection

from gateway.errors import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, place: str) -> None:
    """Bring the schema to the newest revision, in the connection's transaction.

    Raises StoreError for a schema of a newer version of the gateway, and what the database raises.
    """
    from alembic import command  # noqa: PLC0415 - only the first start pays for loading it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the store {place} is of another version of the gateway: {error}") from error

"""Runs the revisions on the connection that the store hands over; refuses to find a database by itself."""

from alembic import context
from sqlalchemy import Connection

from gateway.store.tables import metadata


def run() -> None:
    """Upgrade in the connection's own transaction."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


run()

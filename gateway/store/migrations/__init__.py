"""Schema of the store, one revision a file."""

HEAD = "0006"
"""The newest revision; a start that finds it in the database need not load alembic."""

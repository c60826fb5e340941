"""What is told of an error that nobody foresaw: one log line with its traceback, so that the client may get a 4yz.

Refuses nothing; it never raises while an exception is handled.
"""

import traceback

import structlog


def mishap(where: str, **fields: str) -> None:
    """Log the exception that is being handled."""
    structlog.get_logger().error("unexpected error", where=where, **fields, problem=traceback.format_exc())

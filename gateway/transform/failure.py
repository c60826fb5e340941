"""The error that says which transform could not be done, so that its rule's ``on_failure`` can act."""

from typing import Any

from gateway.errors import TransformError
from gateway.model.verdict import Transform


class TransformFailed(TransformError):
    """A :class:`TransformError` with its transform. Picklable, since planning may happen in another process.

    Codes: ``sealed`` (the body is signed or encrypted), ``no-text`` (no text body to put it in), ``unreadable`` (its
    encoding cannot be followed), ``too-large``, ``bad-header``, ``no-certificate``, ``no-method``,
    ``too-many-recipients``, ``timeout``, ``openssl``, ``spool``; of a large message also ``crashed``, ``limit`` and
    ``unavailable``: the process that planned its changes could not.
    """

    def __init__(self, code: str, detail: str, transform: Transform) -> None:
        super().__init__(code, detail)
        self.transform = transform

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.detail, self.transform)

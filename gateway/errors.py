"""The one tree of errors. Each says whose fault it is, whether it passes by itself, and what the client may read.

Refuses to carry private detail to the outside: ``detail`` is for the log, ``reply`` is for the client.
"""

from gateway.model.reply import Reply


class CivicgateError(Exception):
    """Root. ``reply`` is what an SMTP client may read when this ends its transaction."""

    reply = Reply.of(451, "4.3.0", "Temporary local problem, please try again later")
    temporary = True

    def __init__(self, detail: str, reply: Reply | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if reply is not None:
            self.reply = reply


class ConfigError(CivicgateError):
    """The administrator's: a setting, rule or directory entry that cannot be used. Says file, line and column."""

    temporary = False

    def __init__(self, detail: str, file: str = "", line: int = 0, column: int = 0) -> None:
        where = f"{file}:{line}:{column}: " if file and line else (f"{file}: " if file else "")
        super().__init__(where + detail)
        self.file, self.line, self.column, self.message = file, line, column, detail


class ConfigErrors(CivicgateError):
    """Several :class:`ConfigError` found in one reading, in file order."""

    temporary = False

    def __init__(self, errors: "list[ConfigError]") -> None:
        super().__init__("\n".join(e.detail for e in errors))
        self.errors = tuple(errors)


class ClientError(CivicgateError):
    """The client's: it broke the protocol or a limit."""

    temporary = False


class NextHopError(CivicgateError):
    """The next hop's: down, slow, or answering what is not SMTP. Never read as success."""

    reply = Reply.of(451, "4.4.1", "The mail server behind this gateway does not answer, please try again later")


class ControlError(CivicgateError):
    """A check's: it could not answer. ``reason`` is one of the codes of ``ControlFailure``."""

    reply = Reply.of(451, "4.7.1", "A required check is not available, please try again later")

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class TransformError(CivicgateError):
    """A transform's: the change that a rule demands cannot be made. ``code`` is stable (``no-certificate``, …)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class StoreError(CivicgateError):
    """The store's: disk, database or object store. Nothing was half-written."""

    reply = Reply.of(451, "4.3.1", "The gateway cannot store mail right now, please try again later")


class OperatorError(CivicgateError):
    """The person's at the command line: an unknown id, a forbidden decision. Its text is for that person."""

    temporary = False

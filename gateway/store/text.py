"""Text for storing and logging: refuses lone surrogates and control characters."""


def plain(text: str) -> str:
    """Text that any encoder takes: lone surrogates become ``?``; control characters become spaces."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else " " for c in text)

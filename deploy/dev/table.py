"""A plain-text table whose cells wrap: columns of fixed width, rows printed as they come."""

import textwrap
from collections.abc import Iterator
from itertools import zip_longest


class Table:
    """Columns are (title, width in characters); two spaces stand between them."""

    def __init__(self, *columns: tuple[str, int]) -> None:
        self._titles = tuple(title for title, _ in columns)
        self._widths = tuple(width for _, width in columns)

    def head(self) -> Iterator[str]:
        """The titles and a rule under them."""
        yield from self.row(*self._titles)
        yield "  ".join("─" * width for width in self._widths)

    def row(self, *cells: str) -> Iterator[str]:
        """The lines of one row; a line feed in a cell starts a new line."""
        wrapped = [
            [piece for line in cell.split("\n") for piece in textwrap.wrap(line, width, break_on_hyphens=False) or [""]]
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        for pieces in zip_longest(*wrapped, fillvalue=""):
            yield "  ".join(piece.ljust(width) for piece, width in zip(pieces, self._widths, strict=True)).rstrip()

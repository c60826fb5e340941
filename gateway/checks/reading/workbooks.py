"""Old and binary Excel workbooks (.xls, .xlsb), through calamine.

Refuses to trust it: a panic of its Rust code is a damaged file. New workbooks (.xlsx) are read in :mod:`sheets`, as a
stream and with comments, formats and unused strings.
"""

from collections.abc import Iterator

from python_calamine import CalamineWorkbook, SheetVisibleEnum

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import File
from gateway.checks.reading.values import Fact, FactCode, Item, MalformedError, Text
from gateway.mime.tree import Buffer

_ROWS = 2000


def read_workbook(data: Buffer, budget: Budget) -> Iterator[Item]:
    """All cells of all sheets, hidden ones too; a line a row."""
    try:
        book = CalamineWorkbook.from_filelike(File(data))
        sheets = list(book.sheets_metadata)
    except BaseException as error:
        raise _damaged(error) from error
    yield Text("", "\n".join(sheet.name for sheet in sheets))
    for sheet in sheets:
        hidden = "" if sheet.visible is SheetVisibleEnum.Visible else " (hidden)"
        place = f"sheet {sheet.name[:40]}{hidden}"
        try:
            rows = book.get_sheet_by_name(sheet.name).to_python(skip_empty_area=True)
        except BaseException as error:
            damage = _damaged(error)
            if not isinstance(damage, MalformedError):
                raise damage from error
            yield Fact(FactCode.UNREADABLE, str(damage))
            continue
        for at in range(0, len(rows), _ROWS):
            budget.check_time()
            yield Text(place, "\n".join("\t".join(map(_shown, row)) for row in rows[at : at + _ROWS]))


def _shown(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _damaged(error: BaseException) -> BaseException:
    """What a failure of the library means. Rust's panics come as a BaseException of their own."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        if isinstance(error, MemoryError):
            return error
        return MalformedError(f"workbook: {type(error).__name__}")
    return error

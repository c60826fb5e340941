"""Any octets as a text with files in it, and as a script: uuencode, yEnc, BinHex, and what constants come to."""

from collections.abc import Iterator

from gateway.checks import constants
from gateway.checks.coded import coded_files, may_hold
from gateway.checks.constants import constants_of
from gateway.checks.hidden import smuggled
from gateway.checks.smuggling import active_content
from gateway.checks.tags import tags_of
from tests.fuzz.bounds import in_time, one_in, stretched

LONGEST = 4096
TOKENS = (
    *(b"=ybegin line=128 size=9 name=a\r\n", b"=ypart begin=1 end=9\r\n", b"\r\n=yend", b"begin 644 a.dat\r\n"),
    *(b"(This file must be converted with BinHex 4.0)", b":", b"\r\n`\r\nend\r\n", b"=}", b"!!!", b"\x90"),
    *(b"String.fromCharCode(", b".split('')", b".reverse()", b".join(", b"atob(", b"unescape('%41')", b".concat("),
    *(b"+=", b"'+'", b"['", b"','", b"']", b"x[0]", b"var x=", b";", b"/*", b"*/", b"//", b"</script>", b"<script>"),
    *(b"createObjectURL", b"0x41,", b"`"),
)
MOST_TIMES = 255
"""BinHex: two octets, which are less than three characters, say 255."""


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken."""
    with in_time(len(data)):
        files = _files(data)
        made = constants_of(b"<script>" + data)
    assert not files or may_hold(data), "a file in a text that is passed over"
    assert sum(len(content) for _, content in files) <= MOST_TIMES * len(data) + 64
    assert all(len(value) >= constants._SHORTEST for value in made)
    assert sum(map(len, made)) <= constants._MOST_OCTETS + constants._LONGEST
    if one_in(data, 8):
        assert _files(data) == files
        assert constants_of(b"<script>" + data) == made
        page = b"<html><script>" + data + b"</script></html>"
        for piece in smuggled(page):
            assert isinstance(piece, bytes)
        for fact in active_content(page, tags_of(page)):
            assert fact.detail.isprintable()
    stretched(data, _files)
    stretched(data, lambda long: constants_of(b"<script>" + long))


def _files(data: bytes) -> list[tuple[str, bytes]]:
    return [(file.name, b"".join(file.pieces)) for file in coded_files(data)]


def seeds() -> Iterator[bytes]:
    """One of each kind."""
    yield b"=ybegin line=128 size=5 name=a.dat\r\n\x92\x8f\x96\x96\x99\r\n=yend size=5\r\n"
    yield b"Hi\r\nbegin 644 a.dat\r\n%:&5L;&\\\r\n`\r\nend\r\n"
    yield b'(This file must be converted with BinHex 4.0)\r\n\r\n:!@%!9%9B9(4dH(3!N!8-!!!!!4reBC!+N!"L$M"bAY8:\r\n'
    yield b"var a='crea';var b='teObj';URL[a+b+'ectURL'](new Blob([atob('QUJD')]))"
    yield b"x=['cre','ate'].join('');y='LRUtcejbO'.split('').reverse().join('');z=String.fromCharCode(97,0x62,99,100)"
    yield b"var s='';s+='UEsD';s+='BAAA';document.write(atob(s))"

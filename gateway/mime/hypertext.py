"""HTML as text: what a reader sees, and what is hidden from them by style but stands in the source.

A tokenizer, no parser: every pass moves forward, so that time is linear in the input whatever its tags look like.
:func:`html_to_text` does not judge visibility: text that CSS hides is text; scripts, style sheets and ordinary comments
are not. Hidden text may also part what a reader sees as one: :func:`visible_text` leaves out what inline style hides.
"""

import html as entities
import re
from operator import methodcaller

from gateway.mime.anyof import AnyOf
from gateway.mime.rounds import behind

_OPEN = re.compile(r"<(?=[a-zA-Z!?]|/[a-zA-Z])")
_TAG = re.compile(r"</?([a-zA-Z][^\s/>]*+)")
_ATTRIBUTES = re.compile(r"""(?:[^=>]++|=\s*+(?:"[^"]*+"|'[^']*+')?){1,1000}""")
_CLEAR_TAG = re.compile(
    r"""</?([a-zA-Z][a-zA-Z0-9:-]*)((?:\s+[a-zA-Z][\w:-]*(?:="[^"<>]*"|='[^'<>]*')?)*)\s*/?>""", re.ASCII
)
"""A tag that every way of reading takes for the same, whatever stands before and behind it."""
_LONGEST_CLEAR = 200
_PLAIN_TAG = re.compile(r"</?([a-zA-Z][^\s/<>]*+)([^<>]*+)>?+")
_SHOWN = re.compile(
    r"""(?<=[\s"'/])(?:alt|title|value|placeholder|aria-label)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""",
    re.IGNORECASE,
)
_COMMENT_END = re.compile(r"--!?>")
_CONDITION = re.compile(r"\[if [^\]]{0,200}\]>", re.IGNORECASE)
_ZEROS = re.compile(r"&#0++(?=[0-9])")
_HUGE_NUMBER = re.compile(r"&#[0-9]{8,}+;?")
_TO_SPACE = dict.fromkeys(map(ord, "\t\r\n\f\xa0"), " ")
_WHITE = bytes(32 if chr(octet) in "\t\r\n\f" else octet for octet in range(256))
_SPACES = re.compile(r"  +")
_BLANK_LINES = re.compile(r"\n{3,}")
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dir", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header"),
        *("hr", "html", "legend", "li", "main", "menu", "nav", "ol", "option", "p", "pre", "section", "summary"),
        *("table", "tbody", "tfoot", "thead", "title", "tr", "ul"),
    }
)
_CELLS = frozenset({"td", "th"})
_HIDING = re.compile(
    r"display\s*+:\s*+none|visibility\s*+:\s*+(?:hidden|collapse)|font-size\s*+:\s*+0(?![.0-9]*[1-9])|mso-hide\s*+:\s*+all"
    r"|(?:^|[\s\"'])hidden(?=[\s=/]|$)",
    re.IGNORECASE,
)
_MAY_HIDE = re.compile(
    r"display\s*+:\s*+none|visibility\s*+:|font-size\s*+:\s*+0|mso-hide|[\s\"']hidden[\s=/>]|\[if "
    r"|<(?:template|title)\b",
    re.IGNORECASE,
)
_may_hide = AnyOf(("display", "visibility", "font-size", "mso-hide", "hidden", "[if ", "<template", "<title"))
"""One of these stands in whatever ``_MAY_HIDE`` finds."""
_NEVER_SHOWN = frozenset({"template", "title"})
_VOID = frozenset(
    {*("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")}
)
_CONDITION_END = re.compile(r"<!\[endif\]\s*+-->", re.IGNORECASE)
_SPEAKING = frozenset({"img", "input", "area", "button", "textarea", "option"})
_SILENT = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}


_MOST_MARKS = 1000
_marks: dict[str, str | None] = {}
"""What clear tags met so far leave behind (:func:`_mark`): a message repeats a few, and so does the next message."""


def _mark(tag: str) -> str | None:
    """What a tag leaves in the text; None when it has to be read where it stands. A pure function, remembered."""
    if tag in _marks:
        return _marks[tag]
    match = _CLEAR_TAG.fullmatch(tag)
    mark = "" if tag[:9].lower() == "<!doctype" else None
    if match is not None:
        name, attributes = match[1].lower(), match[2]
        if name not in _SILENT and not (attributes and (name in _SPEAKING or "title" in attributes)):
            mark = _mark_of(name)
    if len(_marks) >= _MOST_MARKS:
        _marks.clear()
    _marks[tag] = mark
    return mark


def _mark_of(name: str) -> str:
    """CR for a block, LF for a line break, a space for a cell, nothing for what stands inside a line."""
    if name == "br":
        return "\n"
    if name in _BLOCKS:
        return "\r"
    return " " if name in _CELLS else ""


def html_to_text(source: str) -> str:
    """The text of an HTML document: tags gone, blocks on lines of their own, white space collapsed, entities resolved.

    Tags inside a line leave no trace (``12<b>3</b>`` is ``123``); table cells are set apart by a space. Texts of
    images and fields (alt, title, value, placeholder) come first, so that they part nothing; what conditional comments
    show to Outlook is included. Line breaks inside ``<pre>`` become spaces. Broken markup is shown rather than
    dropped. Never fails.
    """
    return _finished(_Reader(source))


def visible_text(source: str) -> str | None:
    """The same without what a reader does not see: elements hidden by inline style or attribute, Outlook's own texts.

    None when nothing in the source can hide anything, so that this reading would say nothing new. Never fails.
    """
    if not _may_hide(source) or not _MAY_HIDE.search(source):
        return None
    return _finished(_Reader(source, visible=True))


def _finished(reader: "_Reader") -> str:
    reader.read()
    if reader.aside and not reader.visible:
        reader.out.insert(0, "\n".join(reader.aside) + "\r")  # not at the end: there stands the signature block
    text = "".join(reader.out)
    breaks = "\n" in text
    blocks = filter(None, map(_TRIMMED, text.split("\r")))
    text = "\n".join([_SPACES.sub(" ", block) if "  " in block else block for block in blocks])
    if "&" in text:
        text = _SPACES.sub(" ", unescape(text).replace("\xa0", " "))
        breaks = True
    if breaks:
        text = _BLANK_LINES.sub("\n\n", text.replace(" \n", "\n").replace("\n ", "\n"))
    return text.strip()


def unescape(text: str) -> str:
    """Text with its character references resolved (HTML standard section 13.5).

    Unlike :func:`html.unescape` it does not raise for a number of thousands of digits.
    """
    if "&#" in text:
        text = _HUGE_NUMBER.sub("\ufffd", _ZEROS.sub("&#", text))
    return entities.unescape(text)


_TO_CLOSE = methodcaller("partition", ">")
_TRIMMED = methodcaller("strip", " ")


def _on_one_line(source: str) -> str:
    """White space as spaces, a line's end as one."""
    if source.isascii():  # octets are translated several times as fast
        return b" ".join(source.encode().split(b"\r\n")).translate(_WHITE).decode("ascii")
    return " ".join(source.split("\r\n")).translate(_TO_SPACE)


class _Reader:
    """Walks over a source once. In ``out``, CR stands for the edge of a block, LF for a line break."""

    __slots__ = ("aside", "broken", "concealed", "depth", "endless", "out", "position", "source", "visible")

    def __init__(self, source: str, visible: bool = False) -> None:
        self.source = _on_one_line(source)
        self.visible = visible
        """Leave out what is hidden."""
        self.concealed = ""
        """Name of the hidden element that is being passed."""
        self.depth = 0
        """Elements of that name which are open."""
        self.position = 0
        self.out: list[str] = []
        self.aside: list[str] = []
        """Texts of attributes."""
        self.broken = False
        """A tag without an end was met: from there on a tag ends at the next ``<`` or ``>``."""
        self.endless: set[str] = set()
        """What was opened and never ends (comments, scripts): searching again would take quadratic time."""

    def read(self) -> None:
        """Read all of the source."""
        if not self.visible and self._read_at_once():
            return
        source, out = self.source, self.out
        seen = 0
        while (start := source.find("<", seen)) >= 0:
            if not self.visible:
                close = source.find(">", start, start + _LONGEST_CLEAR) + 1
                if close and (mark := _mark(source[start:close])) is not None:
                    if start > self.position:
                        out.append(source[self.position : start])
                    if mark:
                        out.append(mark)
                    seen = self.position = close
                    continue
            if not _OPEN.match(source, start):
                seen = start + 1  # a lone «<» is text
                continue
            if start > self.position and not self.depth:
                out.append(source[self.position : start])
            self._pass_markup(start)
            seen = self.position
        if not self.depth:
            out.append(source[self.position :])

    def _read_at_once(self) -> bool:
        """Read a source in which every tag is a clear one; False when there are others."""
        text, *pieces = self.source.split("<")
        if not pieces:
            self.out = [text]
            return True
        tags, closed, texts = zip(*map(_TO_CLOSE, pieces), strict=True)
        if "" in closed:
            return False
        marks: dict[str, str] = {}
        for tag in set(tags):
            mark = _mark(f"<{tag}>") if 0 < len(tag) < _LONGEST_CLEAR - 1 else None
            if mark is None:
                return False
            marks[tag] = mark
        self.out = [text] * (2 * len(tags) + 1)
        self.out[1::2] = map(marks.__getitem__, tags)
        self.out[2::2] = texts
        return True

    def _pass_markup(self, start: int) -> None:
        source = self.source
        if source[start + 1] in "!?":
            self._pass_declaration(start)
            return
        if not self.broken:
            match = _TAG.match(source, start)
            assert match is not None  # _OPEN saw its first letter
            end = behind(_ATTRIBUTES, source, match.end())
            if source.startswith(">", end):
                self.position = end + 1
                self._pass_tag(match[1].lower(), source[match.end() : end], source[start + 1] == "/")
                return
            self.broken = True
        match = _PLAIN_TAG.match(source, start)
        assert match is not None  # the rest matches anything
        self.position = match.end()
        if match[0].endswith(">"):
            self._pass_tag(match[1].lower(), match[2], source[start + 1] == "/")
        else:
            self.out.append(match[0])

    def _pass_tag(self, name: str, attributes: str, closing: bool) -> None:
        if self.visible and self._is_hidden(name, attributes, closing):
            return
        if name in _SILENT:
            self._pass_silent(name, closing)
        elif mark := _mark_of(name):
            self.out.append(mark)
        if attributes and (name in _SPEAKING or "title" in attributes):
            for quoted, single, bare in _SHOWN.findall(attributes):
                self.aside.append(quoted or single or bare)

    def _is_hidden(self, name: str, attributes: str, closing: bool) -> bool:
        """True for a tag that opens, closes or stands in an element that is not shown."""
        if self.depth:
            if name == self.concealed:
                self.depth += -1 if closing else 1
            return True
        if closing or name in _VOID or not (name in _NEVER_SHOWN or (attributes and _HIDING.search(attributes))):
            return False
        self.concealed, self.depth = name, 1
        return True

    def _pass_silent(self, name: str, closing: bool) -> None:
        """Pass a script or style sheet; one that never ends is shown. Its closing tag is read as any tag."""
        if name in self.endless or closing:
            return
        end = _SILENT[name].search(self.source, self.position)
        if end is None:
            self.endless.add(name)
        else:
            self.position = end.start()

    def _pass_condition(self) -> None:
        """Pass what stands in a comment for Outlook alone; without an end it is read on."""
        end = None if "[" in self.endless else _CONDITION_END.search(self.source, self.position)
        if end is None:
            self.endless.add("[")
        else:
            self.position = end.end()

    def _pass_declaration(self, start: int) -> None:
        """Pass a comment, ``<!…>`` or ``<?…>``; a conditional comment's content is read on as what it is."""
        source = self.source
        if source.startswith("<!--", start):
            if source.startswith((">", "->"), start + 4):  # empty comments (HTML standard 13.2.5.43)
                self.position = source.index(">", start + 4) + 1
                return
            if condition := _CONDITION.match(source, start + 4):
                self.position = condition.end()
                if self.visible and not source.startswith("<!", self.position):  # <!--[if !mso]><!--> shows to others
                    self._pass_condition()
                return
            end = None if "--" in self.endless else _COMMENT_END.search(source, start + 4)
            if end is None:
                self.endless.add("--")
            self.position = end.end() if end else start + 4
            return
        close = -1 if ">" in self.endless else source.find(">", start)
        if close < 0:
            self.endless.add(">")
            self.out.append(source[start : start + 2])
        self.position = close + 1 if close >= 0 else start + 2

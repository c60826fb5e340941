"""Header fields that a rule adds."""

import email.policy
import pickle
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.verdict import Transform, TransformKind
from gateway.transform import TransformFailed, plan
from gateway.transform.header import write_field
from tests.unit.transform.making import apply, legend, read


def header(name: str, value: str) -> Transform:
    """A header transform."""
    return Transform(TransformKind.HEADER, "rule", name=name, value=value)


def test_it_stands_below_the_trace_fields() -> None:
    """Trace fields keep their place on top; the field follows them, and all other octets stay."""
    trace = b"Return-Path: <a@b>\r\nReceived: by x;\r\n\tSat\r\nDKIM-Signature: v=1\r\n"
    rest = b"Subject: a\r\nReceived: late\r\n\r\nbody\r\n"
    assert apply(trace + rest, header("X-Class", "public")) == trace + b"X-Class: public\r\n" + rest


def test_several_keep_their_order() -> None:
    """Two rules, two fields, in the order in which the verdict has them."""
    assert apply(b"A: b\r\n\r\n", header("X-1", "a"), header("X-2", "b")) == b"X-1: a\r\nX-2: b\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nBcc: b@c"), ("X-A", "a\nb"), ("X-A", "a\rb"), ("X-A", "a\0b"), ("X-A", "a\u2028b"),
        ("X-A", "a\x85b"),
        ("X A", "a"), ("X:A", "a"), ("", "a"), ("X\r\nB", "a"), ("Ä", "a"), ("X" * 61, "a"),
    ],
)  # fmt: skip
def test_injection_is_refused(name: str, value: str) -> None:
    """Line ends and other control characters, and names that are none, fail with a code and the rule's transform."""
    with pytest.raises(TransformFailed) as failure:
        plan(b"A: b\r\n\r\n", (header(name, value),))
    assert failure.value.code == "bad-header"
    assert failure.value.transform.rule == "rule"


def test_the_failure_travels_between_processes() -> None:
    """Planning happens in another process for large messages: plan and failure are the same on the other side."""
    failure = TransformFailed("sealed", "why", legend())
    back = pickle.loads(pickle.dumps(failure))
    assert (back.code, back.detail, back.transform, str(back)) == ("sealed", "why", legend(), "why")
    planned = plan(b"A: b\r\n\r\nbody\r\n", (legend(),))
    assert pickle.loads(pickle.dumps(planned)) == planned


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=400), st.booleans())
def test_any_value_reads_back(value: str, long_name: bool) -> None:
    """Python reads the value back; no line is over 78 unless one word is; every octet is ASCII."""
    name = "X-Civicgate-Quite-A-Long-Name-For-A-Field" if long_name else "X-A"
    raw = write_field(name, value)
    assert raw.isascii()
    for line in raw.split(b"\r\n"):
        assert len(line) <= 78 or len(line.split()) <= 2
    assert raw.count(b"\n") == raw.count(b"\r\n")
    parsed = email.message_from_bytes(raw + b"\r\n", policy=email.policy.compat32)
    shown = str(make_header(decode_header(parsed[name].replace("\r\n", "")))) if value.strip() else ""
    assert shown.strip() == value.strip(" \t").strip()


def test_a_value_that_looks_encoded_stays_as_it_is() -> None:
    """Text that happens to look like an encoded word is shown as that text."""
    result = apply(b"A: b\r\n\r\n", header("X-A", "=?utf-8?Q?no?="))
    assert read(result)["X-A"] == "=?utf-8?Q?no?="

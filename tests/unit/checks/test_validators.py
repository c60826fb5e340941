"""Exact checks of numbers: python-stdnum's truths and the issuers' ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn
from stdnum.us import ssn

from gateway.checks.validators import VALIDATORS, digits_of, is_payment_card, is_us_ssn
from gateway.policy.types import VALIDATORS as NAMES


def test_every_validator_that_a_type_may_name_exists() -> None:
    """The names that the policy accepts are the functions that exist, no more and no less."""
    assert set(VALIDATORS) == set(NAMES)


@given(st.integers(0, 999_999_999))
def test_a_social_security_number_is_what_stdnum_says_with_any_separator(number: int) -> None:
    """Separators change nothing; area, group, serial and blacklist are python-stdnum's."""
    digits = f"{number:09d}"
    expected = ssn.is_valid(digits)
    for separator in ("", "-", " ", "."):
        written = separator.join((digits[:3], digits[3:5], digits[5:]))
        assert is_us_ssn(written.encode()) is expected


@pytest.mark.parametrize("number", ["078-05-1120", "457-55-5462", "219-09-9999", "666-12-3456", "987-65-4320"])
def test_numbers_that_were_never_issued_are_none(number: str) -> None:
    """Known sham numbers and areas outside the issued ranges are refused."""
    assert not is_us_ssn(number.encode())


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005",
        "371449635398431", "6011111111111117", "3530111333300000", "30569309025904", "38520000023237",
        "6200000000000005", "6304000000000000", "4000000000000000006",
    ],
)  # fmt: skip
def test_the_issuers_test_numbers_are_cards(number: str) -> None:
    """Each issuer's published test number passes, whatever separates its digits."""
    assert is_payment_card(number.encode())
    assert is_payment_card("-".join(number).encode())


@given(st.from_regex(r"\A4[0-9]{14}\Z"))
def test_of_ten_last_digits_exactly_one_is_right(head: str) -> None:
    """The Luhn digit decides: one of the ten numbers with a common beginning is a card."""
    assert sum(is_payment_card(f"{head}{last}".encode()) for last in range(10)) == 1


@pytest.mark.parametrize("number", ["1234567812345670", "9111111111111111", "41111111111111", "0000000000000000"])
def test_no_issuer_no_card(number: str) -> None:
    """A right check digit is not enough: prefix and length must be an issuer's."""
    digits = number[:-1]
    whole = digits + luhn.calc_check_digit(digits)
    assert not is_payment_card(whole.encode())


def test_digits_of_keeps_ascii_digits_only() -> None:
    """Separators and line ends go."""
    assert digits_of(b"536-90-\r\n4399") == "536904399"


@given(st.integers(0, 10**20))
def test_the_luhn_digit_is_what_stdnum_says(number: int) -> None:
    """Our faster sum agrees with python-stdnum on any number."""
    assert VALIDATORS["luhn"](str(number).encode()) is luhn.is_valid(str(number))


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("us-itin", ["912-70-1234"], ["912-10-1234", "812-70-1234"]),
        ("us-ein", ["41-6005494"], ["07-6005494"]),
        ("us-rtn", ["021000021", "1110-0002-5"], ["021000022", "900000007"]),
        ("iban", ["DE89 3704 0044 0532 0130 00"], ["DE88 3704 0044 0532 0130 00", "ZZ89"]),
        ("npi", ["1234567893"], ["1234567890", "3234567893"]),
        ("date", ["02/29/2024", "1981-04-12", "4-12-81"], ["02/29/2023", "14/32/1981", "01/01/2150", "1/2"]),
        ("ip-address", ["10.1.2.3", "10.1.2.0/24", "fd00::1"], ["10.1.2.300", "0.0.0.0", "::", "1.2.3"]),
        ("mixed", ["Winter2024!", "hunter2", "P@ssw0rd."], ["required", "Required.", "12345", "ABC", "e.g."]),
        ("strong", ["Winter2024!", "gL7vtR2p", "Quay$Side"], ["hunter2", "Route12", "$25", "2:30PM", "Argon2id", "A1"]),
        ("secret", ["9f8e7d6c5b4a39281706"], ["xxxxxxxxxxxxxxxxxxxx1", "abcdefghij", "1234567890"]),
    ],
)
def test_what_each_validator_knows(name: str, yes: list[str], no: list[str]) -> None:
    """Possible values pass, impossible ones do not."""
    assert [value for value in yes if not VALIDATORS[name](value.encode())] == []
    assert [value for value in no if VALIDATORS[name](value.encode())] == []

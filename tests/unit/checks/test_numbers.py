"""The fast checks of numbers say what python-stdnum says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.us import itin, rtn, ssn

from gateway.checks import numbers

DIGITS = st.text("0123456789", max_size=12)
ACCOUNTS = {
    "AT": "1904300234573201", "BE": "435411161155", "DE": "370400440532013000", "ES": "21000418450200051332",
    "FR": "20041010050500013M02606", "GB": "NWBK60161331926819", "IT": "X0542811101000000123456",
    "MT": "MALT011000012345MTLCAST001S", "NL": "ABNA0417164300", "NO": "86011117947", "XX": "12345678901234",
    "SE": "50000000058398257466", "CH": "00762011623852957", "FI": "12345600000785", "IS": "0159260076545510730339",
}  # fmt: skip
"""Accounts of the countries' published examples, without check digits."""


@given(DIGITS)
def test_a_social_security_number_is_stdnums(number: str) -> None:
    """Any digits, also too few and too many."""
    assert numbers.is_ssn(number) == ssn.is_valid(number)


@pytest.mark.parametrize("area", ["000", "001", "665", "666", "667", "899", "900", "999", "078", "457", "219"])
def test_issued_areas_groups_and_serials_are_stdnums(area: str) -> None:
    """At every border of what is issued, the numbers of advertisements too."""
    for rest in ("000000", "010001", "010000", "000001", "051120", "555462", "099999", "999999", "701234", "881234"):
        assert numbers.is_ssn(area + rest) == ssn.is_valid(area + rest)


@given(st.integers(0, 99), st.integers(0, 9999))
def test_a_taxpayers_number_is_stdnums(group: int, serial: int) -> None:
    """Each group, in an area that is issued and one that is not; 50 to 65 are issued since 2011, stdnum lacks them."""
    for area in ("900", "899"):
        number = f"{area}{group:02d}{serial:04d}"
        assert numbers.is_itin(number) == (itin.is_valid(number) or (area == "900" and 50 <= group <= 65))


@given(DIGITS)
def test_check_digits_are_stdnums(number: str) -> None:
    """Luhn's and the routing number's, with the right last digit and with a wrong one."""
    assert numbers.is_rtn(number) == rtn.is_valid(number)
    if number:
        right = number + luhn.calc_check_digit(number)
        assert numbers.has_luhn_digit(right)
        assert numbers.has_luhn_digit(number) == luhn.is_valid(number)
    if len(number) >= 8:
        assert numbers.is_rtn(number[:8] + rtn.calc_check_digit(number[:8]))


@pytest.mark.parametrize("country", sorted(ACCOUNTS))
def test_an_account_is_stdnums_whatever_digit_changes(country: str) -> None:
    """A country's example holds where stdnum says so, and so does each of its neighbours by one character."""
    right = country + iban.calc_check_digits(f"{country}00{ACCOUNTS[country]}") + ACCOUNTS[country]
    rng = random.Random(country)
    assert numbers.is_iban(right) == iban.is_valid(right) == (country != "XX")
    for at in range(len(right)):
        other = right[:at] + rng.choice("0123456789AZaz -") + right[at + 1 :]
        assert numbers.is_iban(other) == iban.is_valid(other), other
        if at > 4:  # the right check digits, so that the country's own form is what decides
            changed = other[:2] + iban.calc_check_digits(other) + other[4:]
            assert numbers.is_iban(changed) == iban.is_valid(changed), changed


@given(st.from_regex(r"[A-Z]{2}[0-9]{2}[A-Z0-9 .-]{0,30}", fullmatch=True))
def test_any_text_is_judged_as_stdnum_does(text: str) -> None:
    """Unknown countries, wrong lengths and odd separators."""
    assert numbers.is_iban(text) == iban.is_valid(text)

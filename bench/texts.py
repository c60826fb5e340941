"""Texts for measuring the search for information types: prose without any, and prose dense with values of all kinds.

The same octets in every run; each value is another one and passes its check digits. Refuses nothing.
"""

import random
from collections.abc import Callable

from bench.messages import prose

_AREAS = [area for area in range(1, 900) if area != 666]
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!$%+"
_ROUTING_WEIGHTS = (3, 7, 1) * 3


def plain(octets: int) -> bytes:
    """Prose of people who work for a city: street names, dates in words, numbers, and nothing confidential."""
    return prose(octets, random.Random(octets)).encode()


def dense(octets: int, every: int) -> bytes:
    """The same with a value each ``every`` octets, most with the words that say what they are."""
    rng = random.Random(octets + every)
    pieces: list[bytes] = []
    have, due = 0, every / 2
    for word in prose(octets, rng).encode().split(b" "):
        pieces.append(word)
        have += len(word) + 1
        if have >= due:
            pieces.append(rng.choice(_KINDS)(rng).encode())
            have += len(pieces[-1]) + 1
            due += every
    return b" ".join(pieces)[:octets]


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _ssn(rng: random.Random) -> str:
    return f"{rng.choice(_AREAS):03d}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10_000):04d}"


def _card(rng: random.Random) -> str:
    number = "4" + _digits(rng, 14)
    doubled = [int(digit) * (1 + n % 2) for n, digit in enumerate(number, 1)]
    number += str(-sum(value - 9 * (value > 9) for value in doubled) % 10)
    return " ".join(number[n : n + 4] for n in range(0, 16, 4)) if rng.random() < 0.5 else number


def _iban(rng: random.Random) -> str:
    account = _digits(rng, 18)
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def _routing(rng: random.Random) -> str:
    number = f"{rng.randrange(1, 13):02d}{_digits(rng, 6)}"
    return number + str(-sum(int(d) * w for d, w in zip(number, _ROUTING_WEIGHTS, strict=False)) % 10)


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    _ssn,
    _card,
    lambda r: "SSN " + _ssn(r),
    lambda r: "card number " + _card(r),
    lambda r: "IBAN " + _iban(r),
    lambda r: f"call me at ({r.randrange(201, 990)}) {r.randrange(200, 999)}-{_digits(r, 4)}",
    lambda r: "server " + ".".join(str(r.randrange(1, 255)) for _ in range(4)),
    lambda r: f"born {r.randrange(1, 13):02d}/{r.randrange(1, 29):02d}/{r.randrange(1930, 2010)}",
    lambda r: "password: " + "".join(r.choice(_LETTERS) for _ in range(10)),
    lambda r: f"routing number {_routing(r)} account {_digits(r, 9)}",
    lambda r: f"lives at {r.randrange(10, 9999)} North Main Street, Madison, WI 537{_digits(r, 2)}",
    lambda r: f"passport {r.choice('ABCDE')}{_digits(r, 8)}",
)

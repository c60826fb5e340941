"""Passwords of local accounts: which are refused (NIST SP 800-63B section 3.1.1.2), and how one is kept (argon2id).

Refuses short ones, those that everybody tries first, and those made of the account's own name; asks for no kinds of
characters. Hashing happens in threads, few at a time: each takes 64 MiB for a moment.
"""

import asyncio
import re
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import OperatorError

LONGEST = 256
"""Characters; far more than anybody types, few enough to hash."""
_AT_ONCE = 2
_HASHER = PasswordHasher()  # argon2id with RFC 9106's second recommended parameters: 64 MiB, 3 passes, 4 lanes
_ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")
_WORDS = """
password passwort passphrase passw login welcome letmein secret changeme default admin administrator root user test
guest qwerty qwertz azerty iloveyou trustno sunshine princess football baseball basketball hockey soccer monkey dragon
master superman batman starwars pokemon shadow michael jennifer jordan hunter ranger charlie freedom whatever computer
internet google microsoft office outlook windows summer winter spring autumn monday friday january december city
cityhall townhall government mayor council police gateway civicgate email mail correcthorsebatterystaple iamthebest
nothing please opensesame
"""
_COMMON = tuple(sorted(_WORDS.split(), key=len, reverse=True))
_LEET = str.maketrans("@4310$57!8", "aaeiosstib")


def normal(password: str) -> str:
    """The form that is hashed: two ways to type one character give one password (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def check(password: str, address: str, shortest: int) -> None:
    """Raise OperatorError, in words for the person, when the password is not to be used."""
    text = normal(password)
    if len(text) < shortest:
        raise OperatorError(f"The password needs at least {shortest} characters. Several words are easy to remember.")
    if len(text) > LONGEST:
        raise OperatorError(f"The password may have {LONGEST} characters at most.")
    folded = text.casefold()
    names = {part for part in re.split(r"[^a-z0-9]+", address.casefold()) if len(part) > 3}
    names.add(re.sub(r"[^a-z0-9]+", "", address.casefold().partition("@")[0]))
    rest = _without(folded, names)
    if len(rest) < shortest // 2:
        raise OperatorError("The password is made of your own address. Please choose another one.")
    if _is_common(folded):
        raise OperatorError("This is one of the passwords that are tried first. Please choose another one.")


def _without(text: str, names: set[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "") if name else text
    return re.sub(r"[\W_]+", "", text)


def _is_common(folded: str) -> bool:
    """Whether little is left without the words, rows of keys and repetitions that are tried first."""
    compact = re.sub(r"[\W_]+", "", folded)
    for text in (compact, folded.translate(_LEET)):
        letters = re.sub(r"[\W_]+", "", text)
        for word in _COMMON:
            letters = letters.replace(word, "")
        left = re.sub(r"\d{1,4}", "", _straight(letters))
        if len(set(left)) < 4:
            return True
    return len(set(compact)) < 4


def _straight(text: str) -> str:
    """Without runs of four and more along the alphabet, the digits or a row of keys, in either direction."""
    for row in _ROWS:
        for line in (row, row[::-1]):
            for size in range(len(line), 3, -1):
                for start in range(len(line) - size + 1):
                    text = text.replace(line[start : start + size], "")
    return text


class Hashes:
    """Hashes and compares, in threads."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._nobodys = ""

    async def make(self, password: str) -> str:
        """The hash to keep, with salt and parameters in it (PHC string)."""
        async with self._turn:
            return await asyncio.to_thread(_HASHER.hash, normal(password))

    async def fits(self, kept: str, password: str) -> bool:
        """Whether it is the password; as slow for an account that is not there (``kept`` empty) as for one that is."""
        if not self._nobodys:
            self._nobodys = await self.make(secrets.token_hex(16))
        async with self._turn:
            right = await asyncio.to_thread(_verify, kept or self._nobodys, normal(password)[: LONGEST + 1])
        return right and bool(kept)

    @staticmethod
    def outdated(kept: str) -> bool:
        """The hash was made with other parameters than today's."""
        return _HASHER.check_needs_rehash(kept)


def _verify(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False

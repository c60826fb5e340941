"""Numbers in disguise: what the package evadex makes of its own payloads and of numbers that it generates.

Each disguised value stands in two texts: ``bare``, alone as evadex sends it, and ``told``, in a short letter that says
what it is. Needs the packages of the extra ``quality``. Leaves out the techniques that cut the value so that it is no
longer in the text (``partial_…``).
"""

import hashlib

from evadex.core.registry import all_generators, load_builtins
from evadex.core.result import PayloadCategory
from evadex.payloads.builtins import BUILTIN_PAYLOADS
from evadex.synthetic.registry import get_synthetic_generator, load_synthetic_generators

from bench.quality.samples import Label, Sample

GENERATED = 12
SEED = 20261122
GONE = frozenset({"partial_first_half", "partial_last_half", "partial_minus_one"})
MARKUP = frozenset({"html_entity_decimal", "html_entity_hex", "html_comment_injection", "xml_tag_injection"})
"""Techniques of HTML: sent as HTML, where a reader sees the number."""
TOLD = {
    "us-ssn": (
        "Hi,\n\nmy social security number is {}\n\nThanks, Pat",
        "SSN: {}\nDepartment: Streets",
        "please use this ssn for payroll: {}",
    ),
    "payment-card": (
        "Please charge my credit card {}\n\nThanks, Pat",
        "Card number: {}\nExpires: 08/29",
        "the Visa or Mastercard for the booking is {}",
    ),
    "iban": ("Please transfer it to this IBAN: {}\n\nThanks", "IBAN {}"),
}
CATEGORIES = {"SSN": "us-ssn", "CREDIT_CARD": "payment-card", "IBAN": "iban"}
"""evadex's names of payloads and what they are here."""


def load() -> list[Sample]:
    """The texts."""
    load_builtins()
    load_synthetic_generators()
    samples: dict[str, Sample] = {}
    for name, type_ in CATEGORIES.items():
        category = PayloadCategory[name]
        values = [p.value for p in BUILTIN_PAYLOADS if p.category is category]
        values += get_synthetic_generator(category).generate(GENERATED, seed=SEED)
        for value in dict.fromkeys(values):
            for generator in all_generators():
                wanted = getattr(generator, "applicable_categories", None)
                if wanted is not None and category not in wanted:
                    continue
                for variant in generator.generate(value):
                    if variant.technique not in GONE:
                        for sample in _samples(type_, value, variant.value, variant.technique):
                            samples[sample.name] = sample
    return list(samples.values())


def _samples(type_: str, value: str, disguised: str, technique: str) -> list[Sample]:
    markup = technique in MARKUP
    letters = TOLD[type_]
    pick = int.from_bytes(hashlib.sha256(f"{value}{technique}".encode()).digest()[:4], "big") % len(letters)
    made = []
    for way, letter in (("bare", "{}"), ("told", letters[pick])):
        text = letter.format(disguised)
        if markup:
            text = "<p>" + text.replace("\n", "<br>") + "</p>"
        made.append(
            Sample(
                f"evasions/{type_}/{way}/{technique}/{value}", text, (Label(type_, 0, len(text)),),
                frozenset({type_}), group=f"{way}/{technique}", markup=markup,
            )
        )  # fmt: skip
    return made

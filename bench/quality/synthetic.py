"""Texts from the templates of presidio-evaluator, filled by Faker with a fixed seed.

Needs the packages of the extra ``quality``. Refuses the provider of hospital names, which asks the network and which no
template uses.
"""

import contextlib
import io
from collections.abc import Sequence

from presidio_evaluator.data_generator import PresidioSentenceFaker
from presidio_evaluator.data_generator.faker_extensions import (
    AddressProviderNew,
    AgeProvider,
    IpAddressProvider,
    NationalityProvider,
    OrganizationProvider,
    PhoneNumberProviderNew,
    ReligionProvider,
    UsDriverLicenseProvider,
)

from bench.quality.samples import Label, Sample

COUNT = 9000
SEED = 20261122
ENTITIES = {
    "US_SSN": ("us-ssn",),
    "CREDIT_CARD": ("payment-card",),
    "IBAN_CODE": ("iban",),
    "US_DRIVER_LICENSE": ("us-driver-licence",),
    "IP_ADDRESS": ("ip-address", "ip-address-own"),
    "PERSON": ("person-name",),
}
"""Its entities and what they are here. An address is either of two types, by its network."""
UNLIKE = {
    "STREET_ADDRESS": "any street address; home-address asks for words that say that somebody lives there",
    "PHONE_NUMBER": "any telephone number; personnel-phone asks for words that say that it is private",
    "DATE_TIME": "any date; date-of-birth asks for words that say so, and the templates have none",
    "DOMAIN_NAME, EMAIL_ADDRESS, GPE, NRP, ORGANIZATION, TITLE, AGE, ZIP_CODE": "no type here",
}
"""What is not compared, and why. A finding of another type in them still counts as wrong."""
JUDGED = frozenset({
    "us-ssn", "us-itin", "payment-card", "iban", "us-driver-licence", "us-passport", "us-medicare", "us-medicaid",
    "bank-account", "routing-number", "medical-record-number", "person-name", "ip-address", "ip-address-own",
})  # fmt: skip
"""Types that are judged: those above, and other numbers, of which nothing is there to be found."""


def load(count: int = COUNT, seed: int = SEED) -> list[Sample]:
    """The texts."""
    providers = [
        IpAddressProvider, NationalityProvider, OrganizationProvider, UsDriverLicenseProvider, AgeProvider,
        AddressProviderNew, PhoneNumberProviderNew, ReligionProvider,
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, entity_providers=providers, random_seed=seed)
        rows = faker.generate_new_fake_sentences(count)
    return [_sample(n, row.full_text, row.spans) for n, row in enumerate(rows)]


def _sample(number: int, text: str, spans: Sequence[object]) -> Sample:
    labels: list[Label] = []
    for span in spans:
        kind, start, end = (getattr(span, name) for name in ("entity_type", "start_position", "end_position"))
        types = ENTITIES.get(kind, ())
        if len(types) > 1:
            own = text[start:end].startswith(("10.", "192.168.", "fc", "fd")) or _is_private(text[start:end])
            types = types[1:] if own else types[:1]
        labels.extend(Label(type_, start, end) for type_ in types)
    return Sample(f"synthetic/{number}", text, tuple(labels), JUDGED, group="synthetic")


def _is_private(address: str) -> bool:
    pieces = address.split(".")
    return len(pieces) == 4 and pieces[0] == "172" and 16 <= int(pieces[1]) <= 31

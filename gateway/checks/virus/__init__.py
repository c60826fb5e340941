"""The virus control: every message through clamd. Anything but a clear answer is a ControlError, never «clean»."""

from gateway.checks.virus.limits import ClamdLimits, contradictions, read_limits
from gateway.checks.virus.place import TcpPlace, UnixPlace, parse_place
from gateway.checks.virus.scanner import Scannable, VirusScanner

__all__ = [
    "ClamdLimits",
    "Scannable",
    "TcpPlace",
    "UnixPlace",
    "VirusScanner",
    "contradictions",
    "parse_place",
    "read_limits",
]

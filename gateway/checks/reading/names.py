"""File names made to deceive: a program behind a document's extension, and characters that turn the name around.

Refuses to look at content; a wrong type is ``type-mismatch``.
"""

import re

_RUNS = (
    "exe|com|scr|pif|bat|cmd|vbs|vbe|js|jse|wsf|wsh|hta|msi|msp|ps1|psm1|jar|lnk|cpl|dll|reg|scf|xll|chm|iso|img|vhd|vhdx|"
    "appx|msix|url|application|gadget|sct|inf"
)
_LOOKS = (
    "pdf|docx?|docm|xlsx?|xlsm|pptx?|rtf|txt|csv|odt|ods|odp|jpe?g|png|gif|bmp|tiff?|mp3|mp4|avi|mov|wav|zip|rar|7z|html?|"
    "eml|msg|xml|ics"
)
_DOUBLE = re.compile(rf"\.(?:{_LOOKS})[\s._\-]*\.(?:{_RUNS})[. ]*\Z|\s{{8,}}\.(?:{_RUNS})[. ]*\Z", re.IGNORECASE)
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")


def double_extension(name: str) -> bool:
    """``invoice.pdf.exe``, or an extension far behind the rest of the name."""
    return _DOUBLE.search(name) is not None


def turned(name: str) -> bool:
    """A name with characters that turn the direction of writing, so that ``fdp.exe`` shows as ``exe.pdf``."""
    return not name.isascii() and _TURNED.search(name) is not None

"""Messages as trees of offsets: parsing, header values, decoding, text, and edits by byte range.

Pure: no sockets, no clock, no files. Refuses nothing that a message may hold: what is wrong with it is a defect.
"""

from gateway.mime.charsets import to_text
from gateway.mime.decoding import Decoding, decode, decoded_size, text
from gateway.mime.edits import Edit, EditPlan
from gateway.mime.fields import field_value, fields_named, header_bounds, line_ending, part_field, raw_value
from gateway.mime.hypertext import html_to_text
from gateway.mime.mailboxes import Mailbox, addresses, part_addresses
from gateway.mime.parser import parse
from gateway.mime.tree import Buffer, Defect, DefectCode, Field, Limits, Message, Part, Span
from gateway.mime.words import decode_words

__all__ = [
    "Buffer",
    "Decoding",
    "Defect",
    "DefectCode",
    "Edit",
    "EditPlan",
    "Field",
    "Limits",
    "Mailbox",
    "Message",
    "Part",
    "Span",
    "addresses",
    "decode",
    "decode_words",
    "decoded_size",
    "field_value",
    "fields_named",
    "header_bounds",
    "html_to_text",
    "line_ending",
    "parse",
    "part_addresses",
    "part_field",
    "raw_value",
    "text",
    "to_text",
]

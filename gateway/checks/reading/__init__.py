"""What stands in attachments and archives: readers by real type, and the walk through what they hold.

Runs in inspection processes only, never on the event loop: formats are hostile until proven otherwise. Each reader
turns octets into texts, facts and members; the walk reads members in turn, within one budget a message.
"""

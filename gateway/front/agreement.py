"""What is agreed with a mail server when it connects to the milter front: steps, silence, and what may be changed.

Asks for no more than the rules need, and for nothing that the server does not offer. Pure.
"""

from dataclasses import dataclass
from functools import lru_cache

from gateway.wire import milter as wire
from gateway.wire.milter import Action, Protocol, Step

EDITS = int(Action.ADD_HEADER | Action.CHANGE_HEADER | Action.CHANGE_BODY | Action.DELETE_RECIPIENT)
"""What a verdict may ask of the server."""
_SPOKEN = int(Protocol.NO_UNKNOWN | Protocol.NO_DATA | Protocol.LEADING_SPACE)
_SILENCE = {
    Step.CONNECT: int(Protocol.SILENT_CONNECT),
    Step.HELO: int(Protocol.SILENT_HELO),
    Step.MAIL: int(Protocol.SILENT_MAIL),
    Step.HEADER: int(Protocol.SILENT_HEADER),
    Step.END_OF_HEADER: int(Protocol.SILENT_END_OF_HEADER),
    Step.BODY: int(Protocol.SILENT_BODY),
}
_SILENT = sum(_SILENCE.values())
_CONTENT = int(Protocol.NO_HEADER | Protocol.NO_END_OF_HEADER | Protocol.NO_BODY)
_SILENT_MAIL, _SILENT_BODY = int(Protocol.SILENT_MAIL), int(Protocol.SILENT_BODY)
_SKIP, _LEADING_SPACE = int(Protocol.SKIP), int(Protocol.LEADING_SPACE)


@dataclass(frozen=True, slots=True)
class Agreement:
    """One connection's."""

    version: int = wire.VERSION
    actions: int = 0
    protocol: int = 0
    quiet: frozenset[Step] = frozenset()
    """Steps to which the server expects no answer."""
    leading_space: bool = False
    """Values of header fields come and go with the space behind the colon."""
    skips: bool = False
    """The server lets us say that we have seen enough of a body."""
    content: bool = True
    """The server sends all of the message. It is left out while there are no rules."""

    @property
    def can_edit(self) -> bool:
        """Whether the server agreed to all changes that a verdict may ask for."""
        return self.actions == EDITS

    def encode(self) -> bytes:
        """Our half of the negotiation."""
        return wire.options(self.version, self.actions, self.protocol)


@lru_cache(maxsize=64)
def agree(offered: wire.Options, *, content: bool, senders: bool) -> Agreement:
    """What we ask of a server that offers this.

    ``content``: whether there are rules, which may look at it; ``senders``: whether one may refuse at MAIL. Where none
    may, the server need not wait for us twice before the content: what is wrong at MAIL is said at RCPT.
    """
    wanted = _SPOKEN | (_SILENT & ~_SILENT_MAIL if senders else _SILENT)
    if not offered.protocol & _SILENT_BODY:
        wanted |= _SKIP
    if not content:
        wanted |= _CONTENT
    agreed = wanted & offered.protocol
    return Agreement(
        version=min(offered.version, wire.VERSION),
        actions=EDITS & offered.actions if content else 0,
        protocol=agreed,
        quiet=frozenset(step for step, flag in _SILENCE.items() if agreed & flag),
        leading_space=bool(agreed & _LEADING_SPACE),
        skips=bool(agreed & _SKIP),
        content=not agreed & _CONTENT,
    )

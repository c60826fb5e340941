"""Decides where a message is read: small ones here and now, larger ones in an inspection process.

Refuses to let one message hold up another: what is large has a process (and a queue) apart from what is middling, a
small message that turns out to be costly goes there too, and pictures whose words are read have a third; a queue whose
processes are busy for long gets another (:mod:`gateway.checks.lanes`). A check that got no answer is a failure, never
«nothing found» (design section 1, promise 3).
"""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from gateway.checks import hosts, tags
from gateway.checks.apart import Apart
from gateway.checks.child import Depth, Manner, Terms, inspect_as_told
from gateway.checks.inside import NeedsPicturesError, NeedsReader, elsewhere
from gateway.checks.lanes import NOT_FREE, Lane
from gateway.checks.passive import CANDIDATES_CAPPED, PASSIVE, Means, inspect
from gateway.checks.rescan import ELSEWHERE
from gateway.checks.scanner import Scanner
from gateway.errors import ControlError
from gateway.mime.tree import Buffer
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, ControlFailure, Finding, Questions
from gateway.policy.types import InformationType, with_companions
from gateway.settings import InspectionSettings
from gateway.spool import SpooledMessage

LARGE = 2 * 1024 * 1024
"""Octets from which a message waits in the queue of the large ones."""
INLINE_CANDIDATES = 400
"""Matches checked exactly on the event loop (some 10 µs each)."""
CONTENT_UNREADABLE = "content-unreadable"
"""Structure finding: a process ended over a message's attachments, and they were left out."""
INLINE_TAGS = 4000
"""Signs «<» in a message read on the event loop; ordinary mail has some hundreds, and hostile HTML costs by the tag."""
INLINE_PARTS = 64
_INLINE = Means(INLINE_CANDIDATES, elsewhere, INLINE_PARTS)
_MEANS = {
    (disciplined, virus): replace(_INLINE, disciplined=disciplined, out=ELSEWHERE if virus else None)
    for disciplined in (False, True)
    for virus in (False, True)
}
"""For whether lines are known to be in order, and for whether a message of which clamd may not see everything is looked
at in a process."""
_KEPT_SCANNERS = 4
_MORE = 2
"""Processes that the queue of middling messages may have beyond its own while these are busy for long."""

P = ParamSpec("P")
R = TypeVar("R")


class Inspected(NamedTuple):
    """What the passive checks say of one message, in the terms of ``Findings``."""

    items: tuple[Finding, ...]
    failures: tuple[ControlFailure, ...]
    known: frozenset[Check]


class Examined(NamedTuple):
    """The same, and what has to be scanned besides the message."""

    items: tuple[Finding, ...]
    failures: tuple[ControlFailure, ...]
    """With the virus control's, when nobody knows what has to be scanned."""
    known: frozenset[Check]
    apart: SpooledMessage | None = None
    """One file in which all of it stands; the caller closes it. None: nothing, as of ordinary mail."""


@lru_cache(maxsize=2)
def _compiled(types: tuple[InformationType, ...]) -> Scanner:
    """Seconds of work, done once: a worker has what its parent compiled, a reload what has not changed.

    Two, because an inspector needs two: of all types, so that a wrong one is refused, and of those that rules ask for.
    """
    return Scanner(types)


class Inspector:
    """The passive checks of one worker. Use it on one event loop; ``close`` it at the end."""

    def __init__(self, settings: InspectionSettings, types: Sequence[InformationType]) -> None:
        """No process is started yet. Raises :class:`ConfigErrors` when the types cannot be compiled."""
        self._settings = settings
        self._types: dict[str, InformationType] = {}
        self._scanners: dict[frozenset[str], Scanner] = {}
        self._keys: dict[Questions, str] = {}
        self._middling = Lane(settings, _MORE)
        self._large = Lane(settings, 1)
        self._pictures = Lane(settings, 1)
        self.use(types)

    def use(self, types: Sequence[InformationType]) -> None:
        """Take new definitions, all or (raising :class:`ConfigErrors`) none. Inspections under way keep the old."""
        by_id = {type_.id: type_ for type_ in types}
        scanner = _compiled(tuple(by_id[id_] for id_ in sorted(by_id)))
        self._types, self._scanners = by_id, {frozenset(by_id): scanner}

    def prepare(self, questions: Questions) -> None:
        """Compile what the questions need, so that the first message does not wait for it."""
        if questions.types:
            self._scanner(questions.types)
        if questions.checks:
            tags.prepare()
        if Check.LINK in questions.checks:
            hosts.prepare()

    def start(self) -> None:
        """Start one inspection process ahead of the first message. Raises :class:`ControlError`.

        On the thread that lives as long as the gateway: the process ends with the thread that started it.
        """
        self._middling.start()

    async def close(self) -> None:
        """End all inspection processes."""
        await self._middling.close()
        await self._large.close()
        await self._pictures.close()

    async def inspect(self, message: SpooledMessage, envelope: Envelope, questions: Questions) -> Inspected:
        """The answers of all passive checks asked for. Never raises; a check without an answer is a failure."""
        asked = questions.checks & PASSIVE
        if not asked:
            return Inspected((), (), frozenset())
        try:
            return await self._inspect(message, envelope, questions)
        except ControlError as error:
            return Inspected((), _failures(asked, error.reason, error.detail), frozenset())
        except Exception as error:  # noqa: BLE001 - a mistake of ours must become a failure, not a lost verdict
            detail = f"{type(error).__name__}: {error}"
            return Inspected((), _failures(asked, "crashed", detail), frozenset())

    async def examine(self, message: SpooledMessage, envelope: Envelope, questions: Questions) -> Examined:
        """As :meth:`inspect`, and what the virus control has to scan besides the message. Never raises."""
        if Check.VIRUS not in questions.checks:
            return Examined(*await self.inspect(message, envelope, questions))
        apart = Apart()
        asked = questions.checks & PASSIVE
        try:
            items, failures, known = await self._inspect(message, envelope, questions, apart)
            failure = apart.failure(Check.STRUCTURE in asked)
            more = apart.take(self._settings.rescan_octets)
            return Examined(items, (*failures, failure) if failure else failures, known, more)
        except ControlError as error:
            failures = _failures(asked | {Check.VIRUS}, error.reason, error.detail)
        except Exception as error:  # noqa: BLE001 - as above
            failures = _failures(asked | {Check.VIRUS}, "crashed", f"{type(error).__name__}: {error}")
        finally:
            apart.close()
        return Examined((), failures, frozenset())

    async def run(
        self,
        function: Callable[Concatenate[Buffer, P], R],
        message: SpooledMessage,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """``function(message.buffer, *args)``: here when the message is small, else in an inspection process.

        ``function``: importable by name; arguments and result picklable, the result of plain values and this
        package's classes. Raises what the function raises if that is a :class:`CivicgateError`, and
        :class:`ControlError` (``timeout``, ``crashed``, ``limit``, ``unavailable``) when there is no answer.
        """
        if self._is_light(message):
            return function(message.buffer, *args, **kwargs)
        if kwargs:
            raise TypeError("arguments are given by position")
        result: R = await self._lane(message).call(function, message, lambda _told: args)
        return result

    async def _inspect(
        self, message: SpooledMessage, envelope: Envelope, questions: Questions, apart: Apart | None = None
    ) -> Inspected:
        scanner = self._scanner(questions.types)
        asked = questions.checks & PASSIVE
        if self._is_light(message):
            try:
                means = _MEANS[message.disciplined, apart is not None]
                items = inspect(message.buffer, envelope, questions, scanner, self._settings, means)
            except NeedsReader:
                pass
            else:
                if not any(item.kind == CANDIDATES_CAPPED for item in items):
                    return Inspected(items, (), asked)
        try:
            depth = Depth.ATTACHMENTS if self._settings.attachments else Depth.MESSAGE
            items = await self._to_depth(message, envelope, questions, depth, apart)
        except ControlError as error:
            if not self._settings.attachments or error.reason == "unavailable" or error.detail == NOT_FREE:
                raise
            return await self._without_attachments(message, envelope, questions, error, apart)
        return Inspected(items, (), asked)

    async def _to_depth(
        self, message: SpooledMessage, envelope: Envelope, questions: Questions, depth: Depth, apart: Apart | None
    ) -> tuple[Finding, ...]:
        """In the queue of the message's size; in that of pictures when it turns out that there is one to be read."""
        try:
            return await self._in_process(message, envelope, questions, depth, apart)
        except NeedsPicturesError:
            return await self._in_process(message, envelope, questions, Depth.PICTURES, apart)

    async def _in_process(
        self, message: SpooledMessage, envelope: Envelope, questions: Questions, depth: Depth, apart: Apart | None
    ) -> tuple[Finding, ...]:
        scanner = self._scanner(questions.types)
        key = self._key(questions, scanner)

        def arguments(told: str) -> tuple[Any, ...]:
            terms = None if told == key else Terms(scanner.types, scanner.compiled, questions, self._settings)
            return envelope, key, terms, Manner(depth, message.disciplined)

        found: tuple[Finding, ...]
        file = apart.file(message) if apart is not None else -1
        lane = self._pictures if depth is Depth.PICTURES else self._lane(message)
        found, handed = await lane.call(inspect_as_told, message, arguments, key, file)
        if apart is not None:
            apart.handed = handed
        return found

    async def _without_attachments(
        self,
        message: SpooledMessage,
        envelope: Envelope,
        questions: Questions,
        error: ControlError,
        apart: Apart | None,
    ) -> Inspected:
        """What can still be said after a process ended over a message: all but the inside of its attachments.

        The content check has then no answer. Raises :class:`ControlError` when it was not the attachments' fault.
        """
        items = await self._in_process(message, envelope, questions, Depth.MESSAGE, apart)
        if apart is not None:
            apart.handed = apart.handed._replace(unread=error.detail)
        asked = questions.checks & PASSIVE
        if Check.STRUCTURE in asked:
            items = (*items, Finding(Check.STRUCTURE, CONTENT_UNREADABLE, evidence=error.reason))
        failed = asked & {Check.CONTENT, Check.ENCRYPTION}
        return Inspected(items, _failures(failed, error.reason, error.detail), asked - failed)

    def _key(self, questions: Questions, scanner: Scanner) -> str:
        """A name for the terms of an inspection; two that are equal have the same, also after a reload."""
        key = self._keys.get(questions)
        if key is None:
            if len(self._keys) >= _KEPT_SCANNERS:
                self._keys.clear()
            told = pickle.dumps((scanner.digest, questions, self._settings.model_dump()))
            key = self._keys[questions] = hashlib.sha256(told).hexdigest()
        return key

    def _scanner(self, ids: frozenset[str]) -> Scanner:
        scanner = self._scanners.get(ids)
        if scanner is None:
            missing = ids - self._types.keys()
            if missing:
                raise ControlError("unavailable", f"no definition of {', '.join(sorted(missing))}")
            if len(self._scanners) >= _KEPT_SCANNERS:
                self._scanners.clear()
            needed = with_companions(self._types, ids)
            scanner = self._scanners[ids] = _compiled(tuple(self._types[id_] for id_ in sorted(needed)))
        return scanner

    def _is_light(self, message: SpooledMessage) -> bool:
        """Whether it can be looked at here: it takes some milliseconds at most, hostile ones some tens."""
        if message.size > self._settings.inline:
            return False
        buffer = message.buffer
        data = buffer if isinstance(buffer, bytes) else buffer[:]
        return len(data.split(b"<", INLINE_TAGS + 1)) <= INLINE_TAGS + 1  # takes half as long as to count them

    def _lane(self, message: SpooledMessage) -> Lane:
        return self._large if message.size >= LARGE else self._middling


def _failures(asked: frozenset[Check], reason: str, detail: str) -> tuple[ControlFailure, ...]:
    return tuple(ControlFailure(check, reason, detail) for check in sorted(asked))

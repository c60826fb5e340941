"""Inspection processes and the queue before them.

Refuses to let one slow message keep all others waiting: when every process of a lane has been busy with one request for
:data:`PATIENCE`, the next in the queue gets a process more, up to a bound; it goes again when nobody waits.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.checks.processes import InspectionProcess
from gateway.errors import CivicgateError, ControlError
from gateway.settings import InspectionSettings
from gateway.spool import SpooledMessage

PATIENCE = 0.25
"""Seconds in which some process of a lane has to become free before one more is started."""
NOT_FREE = "no inspection process became free"


class Lane:
    """Some inspection processes and the queue before them. On one event loop; ``close`` it."""

    def __init__(self, settings: InspectionSettings, more: int = 0) -> None:
        """``more``: processes beyond ``settings.processes`` that may be started while all are busy for long."""
        self._settings = settings
        self._free = asyncio.Semaphore(settings.processes)
        self._more = more
        self._added = 0
        self._waiting = 0
        self._starting = 0
        self._freed = 0.0
        """When a process became free or had started last, by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[InspectionProcess] = []
        self._ending: set[asyncio.Future[str]] = set()

    def start(self) -> None:
        """Start one process ahead of the first request. Raises :class:`ControlError` (``unavailable``)."""
        if not self._idle:
            self._idle.append(InspectionProcess(self._settings))

    async def close(self) -> None:
        """End all processes."""
        if self._timer is not None:
            self._timer.cancel()
        idle, self._idle = self._idle, []
        for process in idle:
            self._end(process)
        await asyncio.gather(*self._ending)

    async def call(
        self,
        function: Callable[..., Any],
        message: SpooledMessage,
        arguments: Callable[[str], tuple[Any, ...]],
        tells: str = "",
        file: int = -1,
    ) -> Any:
        """Run the function in a free process. ``arguments``: made from the digest that the process already knows.

        ``file``: as in :meth:`InspectionProcess.call`. Raises what that raises, and :class:`ControlError`
        (``timeout``) with :data:`NOT_FREE`.
        """
        await self._turn()
        try:
            return await self._call(self._take(), function, message, arguments, tells, file)
        finally:
            self._leave()

    # --- the queue --------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait until a process is free, or may be started."""
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        self._watch(PATIENCE)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._free.acquire()
        except TimeoutError as error:
            raise ControlError("timeout", NOT_FREE) from error
        finally:
            self._waiting -= 1

    def _watch(self, seconds: float) -> None:
        if self._timer is None and self._added < self._more:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Somebody waited for a while: one process more, unless one has become free meanwhile."""
        self._timer = None
        if not self._waiting:
            return
        left = self._freed + PATIENCE - asyncio.get_running_loop().time()
        if left <= 0 and not self._starting:
            self._added += 1
            self._free.release()
        self._watch(left if left > 0 else PATIENCE)

    def _leave(self) -> None:
        """A request is over. A process that was added goes when nobody waits for it."""
        self._freed = asyncio.get_running_loop().time()
        if not self._added or self._waiting:
            self._free.release()
            return
        self._added -= 1
        while len(self._idle) > self._settings.processes + 1:  # one more than asked for stays: it is warm
            self._end(self._idle.pop(0))

    # --- a process --------------------------------------------------------------------------------------------------

    async def _call(
        self,
        process: InspectionProcess,
        function: Callable[..., Any],
        message: SpooledMessage,
        arguments: Callable[[str], tuple[Any, ...]],
        tells: str,
        file: int,
    ) -> Any:
        healthy = ended = False
        try:
            await self._ready(process)
            async with asyncio.timeout(self._settings.timeout):
                result = await process.call(function, message, arguments(process.told), file)
            healthy = True
            process.told = tells or process.told
        except TimeoutError as error:
            raise ControlError("timeout", f"inspection took over {self._settings.timeout:g} s") from error
        except ControlError as error:
            ended = True
            how = await asyncio.shield(self._end(process))
            raise ControlError(error.reason, f"{error.detail} ({how})") from error
        except CivicgateError:
            healthy = True
            raise
        finally:
            if healthy:
                self._idle.append(process)
            elif not ended:
                self._end(process)
        return result

    async def _ready(self, process: InspectionProcess) -> None:
        """Wait until it has started, which is no reason to start another."""
        self._starting += 1
        try:
            await process.ready()
        finally:
            self._starting -= 1
        self._freed = asyncio.get_running_loop().time()

    def _take(self) -> InspectionProcess:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            self._end(process)
        return InspectionProcess(self._settings)

    def _end(self, process: InspectionProcess) -> "asyncio.Future[str]":
        """Kill it; it is waited for in a thread, since the kernel may need a while to free its memory."""
        process.close()
        future = asyncio.get_running_loop().run_in_executor(None, process.reap)
        self._ending.add(future)
        future.add_done_callback(self._ending.discard)
        return future

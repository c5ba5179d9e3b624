"""Blocking work in threads, under structured concurrency."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(executor: Executor | None, call: Callable[[], T]) -> T:
    """Run `call` in a thread. Cancelled, this returns only when the thread has stopped."""
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):  # asked again: the thread still has to stop first
            await all_done((future,))
        if not future.cancelled():
            future.exception()
        raise


async def all_done(futures: Collection[asyncio.Future[Any]]) -> None:
    """Return when all have ended, however; cancelled meanwhile, this raises that only then."""
    cancelled: asyncio.CancelledError | None = None
    while pending := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def first_of(*waits: Coroutine[Any, Any, object]) -> int:
    """Which of these ended first, by its position; the others are cancelled. Raises what that one raised."""
    tasks = [asyncio.ensure_future(one) for one in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        place = next(place for place, task in enumerate(tasks) if task.done())
        tasks[place].result()
        return place
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()


class WorkerSlots:
    """So many places for threads that hash and inflate.

    What has begun goes before what hasn't, so that few are under way at a time; then the one with the most
    left to do.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: list[tuple[bool, int, int, asyncio.Future[None]]] = []
        self._order = 0

    @property
    def is_idle_elsewhere(self) -> bool:
        """Whether, beside the caller, a place is free and nobody waits for it."""
        return self._free > 0 and not self._waiting

    @asynccontextmanager
    async def hold(self, remaining_bytes: int, *, has_begun: bool) -> AsyncIterator[None]:
        if self._free > 0:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._order += 1
            heapq.heappush(self._waiting, (not has_begun, -remaining_bytes, self._order, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release()
                else:
                    turn.cancel()
                raise
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

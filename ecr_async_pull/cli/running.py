"""Runs a coroutine as a command does: signals end it in good order, logs stay ours."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..progress.events import Progress
from ..settings import MIB

T = TypeVar("T")

_GC_THRESHOLD = 20_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_FREE_BYTES = 8 * MIB
_LARGEST_IN_HEAP_BYTES = MIB
_FOREIGN_LOGGERS = ("aiobotocore", "botocore", "aioboto3", "boto3", "stamina", "asyncio", "aiohttp")


def run_command(call: Coroutine[Any, Any, T]) -> T:
    """Run to the end. SIGINT and SIGTERM cancel it, let it clean up, and raise `KeyboardInterrupt`."""
    _raise_file_limit()
    _tune_heap()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)  # bodies come in as short-lived objects without cycles
    return asyncio.run(_interruptible(call))


async def _interruptible(call: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(call)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _raise_file_limit() -> None:
    """A bulk pull has a few files open for each blob under way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(hard, 16384)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tune_heap() -> None:
    """One heap for all threads, which keeps what is freed: a piece of a body lives for some milliseconds.

    With a heap a thread, what one has freed is lost to the others; and memory given back to the kernel comes
    anew with a page fault for each 4 KiB of every piece. glibc's mallopt(3); elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP_BYTES)


class _ProgressHandler(logging.Handler):
    """Log lines go where the bars are drawn, so that neither spoils the other."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.message(self.format(record))


def configure_logging(progress: Progress, *, verbosity: int) -> None:
    """Warnings always, `-v` tells retries and fallbacks, `-vv` what other libraries log too."""
    handler = _ProgressHandler(progress)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ecr_async_pull").setLevel(logging.DEBUG if verbosity else logging.WARNING)
    for name in _FOREIGN_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if verbosity > 1 else logging.CRITICAL)

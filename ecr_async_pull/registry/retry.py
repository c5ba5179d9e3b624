"""Small requests made again after transient faults."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import TransientError

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def retrying(call: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """What `call` returns, made up to `attempts` times while it raises `TransientError`.

    Waits in between with jitter, growing from 0.1 s to 5 s; what the server asked for wins. The retry
    library is imported after the first fault only: most pulls meet none.
    """
    try:
        return await call()
    except TransientError as error:
        pending: TransientError | None = error
        if attempts <= 1:
            raise
    import stamina

    # Its notice of each retry would reach the screen as a warning where nobody configured logging.
    logger = logging.getLogger("stamina")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)

    async for attempt in stamina.retry_context(on=_wait, attempts=attempts, timeout=None, wait_jitter=0.5):
        with attempt:
            if pending is not None:
                fault, pending = pending, None
                raise fault
            return await call()
    raise AssertionError


def _wait(error: Exception) -> bool | float:
    if not isinstance(error, TransientError):
        return False
    _log.debug("another try: %s", error)
    return True if error.retry_after_s is None else error.retry_after_s

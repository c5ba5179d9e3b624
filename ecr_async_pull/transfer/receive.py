"""A body's bytes to their place in the blob's file, as they come."""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor
from functools import partial

from ..errors import StorageError, TransientError, storage_errors
from ..progress.events import Progress
from ..settings import KIB
from .blob_fetch import BlobFetch
from .blob_source import BlobBody
from .budget import RateLimit
from .offload import in_thread
from .segments import Segment

_WRITE_BYTES = 256 * KIB
_HOLD_S = 0.02
_SLOW_WRITE_S = 0.01
_DISK_SLOW_S = 5.0


class Receiver:
    """Writes what all requests of a run receive. `received_bytes` counts it.

    Into the page cache a write is a copy of some 50 us, half of what going to a thread would cost, so it is
    made at once; when one took much longer the disk is pushing back, and threads do it for a while.
    """

    def __init__(self, *, progress: Progress, writers: Executor, rate_limit: RateLimit) -> None:
        self.received_bytes = 0
        self._progress = progress
        self._writers = writers
        self._rate_limit = rate_limit
        self._disk_slow_until = 0.0

    async def receive(self, blob: BlobFetch, segment: Segment, body: BlobBody) -> None:
        """Write the body as it comes. Raises `TransientError` for a short body, `StorageError`."""
        held: list[bytes] = []
        held_bytes = 0
        write_by = 0.0  # what a killed process held is fetched again: over a slow connection hold less
        content = body.content
        try:
            while chunk := await content.readany():
                room = segment.remaining_bytes - held_bytes
                if len(chunk) > room:
                    raise TransientError(f"{body.host} sent more bytes than asked for")
                held.append(chunk)
                held_bytes += len(chunk)
                is_due = held_bytes >= _WRITE_BYTES or time.monotonic() >= write_by
                if is_due or held_bytes == segment.remaining_bytes:
                    pieces, size = held, held_bytes
                    held, held_bytes = [], 0  # before anything can be cancelled: never written twice
                    await self._write(blob, segment, pieces)
                    await self._rate_limit.take(size)
                    write_by = time.monotonic() + _HOLD_S
                if segment.remaining_bytes == 0:
                    await content.readany()  # the end of the body, so that the connection can be used again
                    return
        finally:
            if held_bytes:
                await self._write(blob, segment, held)
        raise TransientError(f"the answer of {body.host} broke off")

    async def _write(self, blob: BlobFetch, segment: Segment, pieces: list[bytes]) -> None:
        size = sum(map(len, pieces))
        write = partial(_write_pieces, blob, pieces, blob.offset + segment.position, size)
        start, began_at = segment.position, time.monotonic()
        if began_at < self._disk_slow_until:
            await in_thread(self._writers, write)
        else:
            write()
            if time.monotonic() - began_at > _SLOW_WRITE_S:
                self._disk_slow_until = began_at + _DISK_SLOW_S
        segment.position += size
        self.received_bytes += size
        blob.landed(start, start + size)
        self._progress.fetched(digest=blob.digest, delta_bytes=size)


def _write_pieces(blob: BlobFetch, pieces: list[bytes], offset: int, size: int) -> None:
    """Write the pieces one behind the other."""
    with storage_errors("write", blob.path):
        written = os.pwritev(blob.fd, pieces, offset)
        while written < size:
            rest = b"".join(pieces)[written:]
            count = os.pwrite(blob.fd, rest, offset + written)
            if count == 0:
                raise StorageError(f"can't write {blob.path}: the file system takes no more bytes")
            written += count

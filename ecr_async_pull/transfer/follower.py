"""The worker behind the front of one partial file: hash, inflate, hash, write. Thread side, no async.

One pass over the stored bytes, while the page cache still holds them: sha256 of what is stored, inflate,
sha256 of the tar against the diff_id, write to every sink. Memory: two pieces, whatever the layer's size.
"""

from __future__ import annotations

import itertools
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from ..digest import Digest, Hasher
from ..errors import IntegrityError
from ..settings import KIB
from .inflate import MAGIC_BYTES, Compression, Inflater, detect
from .sinks import Sink

_READ_BYTES = 128 * KIB
_SPLIT_DEPTH = 8

_Piece = bytes | memoryview
_Take = Callable[[_Piece], None]
_Tasks = queue.SimpleQueue[tuple[_Take, _Piece] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowPlan:
    """What has to be done with one blob's bytes.

    The stored bytes lie at `offset` of `path`. `checks_stored`: hash them (not needed for a blob out of a
    trusted cache). `inflates`: decode the layer, for the sinks or for its diff_id's sake. `diff_id`: what
    the tar must hash to; `checks_diff_id` False where that was checked when the cache took the blob and
    the stream's own CRC guards it now.
    """

    path: Path
    offset: int
    size_bytes: int
    digest: Digest
    checks_stored: bool
    inflates: bool
    diff_id: Digest | None
    checks_diff_id: bool = True


class Follower:
    """Advances over one blob; not thread-safe: one `advance` at a time. Whoever made it calls `close`."""

    def __init__(self, plan: FollowPlan, sinks: Sequence[Sink]) -> None:
        self.plan = plan
        self.processed_bytes = 0
        self.tar_size_bytes = 0
        self._sinks = tuple(sinks)
        self._fd = -1
        self._stored = Hasher(plan.digest.algorithm) if plan.checks_stored else None
        self._tar: Hasher | None = None
        self._inflater: Inflater | None = None
        self._buffer = memoryview(b"")

    @property
    def target(self) -> Path:
        """The file to name where the disk refuses."""
        return self._sinks[0].extent.path if self._sinks else self.plan.path

    def _begin(self) -> None:
        plan = self.plan
        self._fd = os.open(plan.path, os.O_RDONLY | os.O_CLOEXEC)
        self._buffer = _buffer(min(_READ_BYTES, max(plan.size_bytes, 1)))
        if not plan.inflates:
            return
        for sink in self._sinks:
            sink.open()
        first = os.pread(self._fd, min(MAGIC_BYTES, plan.size_bytes), plan.offset)
        compression = detect(first)
        self._inflater = Inflater(compression)
        is_guarded = compression is Compression.GZIP and not plan.checks_diff_id
        if plan.diff_id is not None and not is_guarded:
            self._tar = Hasher(plan.diff_id.algorithm)

    def advance(self, limit: int, split: Executor | None = None) -> None:
        """Process stored bytes up to the offset `limit`, all of which have landed.

        With `split`, a second thread hashes and writes what this one reads and inflates; that pool must
        always have a thread free for it.
        Raises `IntegrityError`, OSError.
        """
        if self._fd < 0:
            self._begin()
        can_split = self._inflater is not None and self._inflater.compression is not Compression.NONE
        if split is None or not can_split:
            self._run(limit, lambda take, piece: take(piece), itertools.repeat(self._buffer))
            return
        # One more than may be on their way to the second thread: none is read into before it was hashed.
        buffers = itertools.cycle([self._buffer, *(_buffer(_READ_BYTES) for _ in range(_SPLIT_DEPTH))])
        tasks: _Tasks = queue.SimpleQueue()
        room: queue.SimpleQueue[None] = queue.SimpleQueue()  # one token a piece that may be on its way
        for _ in range(_SPLIT_DEPTH):
            room.put(None)

        def hand_over(take: _Take, piece: _Piece) -> None:
            room.get()
            tasks.put((take, piece))

        tail = split.submit(_take_all, tasks, room)
        try:
            self._run(limit, hand_over, buffers)
        finally:
            tasks.put(None)
            tail.result()

    def _run(self, limit: int, do: Callable[[_Take, _Piece], None], buffers: Iterator[memoryview]) -> None:
        plan, position = self.plan, self.processed_bytes
        while position < limit:
            buffer = next(buffers)
            got = os.preadv(self._fd, [buffer[: limit - position]], plan.offset + position)
            if got == 0:
                raise IntegrityError(f"{plan.digest}: its file is {limit - position} bytes short")
            view = buffer[:got]
            if self._stored is not None:
                do(self._stored.update, view)
            if self._inflater is not None:
                try:
                    for piece in self._inflater.feed(view):
                        do(self._consume, piece)
                except IntegrityError as error:
                    raise IntegrityError(f"layer {plan.digest}: {error}; nothing of it was kept") from error
            position += got
            self.processed_bytes = position

    def _consume(self, piece: _Piece) -> None:
        if self._tar is not None:
            self._tar.update(piece)
        for sink in self._sinks:
            sink.write(piece)
        self.tar_size_bytes += len(piece)

    def finish(self) -> None:
        """Check the digests once every byte was processed. Raises `IntegrityError`."""
        plan = self.plan
        if self._fd < 0:
            self._begin()  # an empty blob
        if self._stored is not None and (actual := self._stored.digest()) != plan.digest:
            raise IntegrityError(
                f"blob {plan.digest} arrived with digest {actual}; it was discarded. Pull again; if it"
                " happens again, the registry's copy or something between here and there is damaged"
            )
        if self._inflater is None:
            return
        try:
            self._inflater.finish()
        except IntegrityError as error:
            raise IntegrityError(f"layer {plan.digest}: {error}; nothing of it was kept") from error
        if self._tar is not None and (actual := self._tar.digest()) != plan.diff_id:
            raise IntegrityError(
                f"layer {plan.digest} inflates to {actual}, but the image's config says {plan.diff_id}:"
                " the image is inconsistent; it has to be built and pushed again"
            )

    def close(self) -> None:
        """Close every file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for sink in self._sinks:
            sink.close()


def _take_all(tasks: _Tasks, room: queue.SimpleQueue[None]) -> None:
    """The second thread: takes every piece, even once one of them can't be written."""
    error: Exception | None = None
    while (task := tasks.get()) is not None:
        take, piece = task
        if error is None:
            try:
                take(piece)
            except Exception as fault:
                error = fault
        room.put(None)
    if error is not None:
        raise error


def _buffer(size_bytes: int) -> memoryview:
    return memoryview(bytearray(size_bytes))

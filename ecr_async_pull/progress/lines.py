"""Plain lines for logs: no escape sequences, no carriage returns, few of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from ..digest import Digest
from .tally import Tally
from .text import duration_text, one_line, size_text


class LineProgress:
    """One line a finished blob, and the total every `interval_s`. Goes silent when the stream breaks."""

    def __init__(
        self, stream: TextIO, *, interval_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._tally = Tally()
        self._began_s = clock()
        self._next_s = self._began_s + interval_s
        self._is_open = True

    def start(self, *, label: str) -> None:
        self._tally.start(label=label)
        self._write(f"pulling {one_line(label)}")

    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None:
        self._tally.add_blob(digest=digest, size_bytes=size_bytes, have_bytes=have_bytes)

    def fetched(self, *, digest: Digest, delta_bytes: int) -> None:
        self._tally.fetched(digest=digest, delta_bytes=delta_bytes)
        self._tick()

    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None:
        self._tally.unpacked(digest=digest, delta_bytes=delta_bytes)
        self._tick()

    def blob_done(self, *, digest: Digest) -> None:
        blob = self._tally.blobs.get(digest)
        if blob is not None and not blob.is_done:
            self._tally.blob_done(digest=digest)
            counts = f"{self._tally.done_count}/{len(self._tally.blobs)}"
            self._write(f"{digest.short} done, {size_text(blob.size_bytes)} ({counts})")
        self._tick()

    def message(self, text: str) -> None:
        self._write(one_line(text))

    def close(self) -> None:
        if self._is_open and self._tally.blobs:
            elapsed_s = self._clock() - self._began_s
            tally = self._tally
            rate = tally.fetched_bytes / elapsed_s if elapsed_s > 0 else 0.0
            self._write(
                f"{tally.done_count}/{len(tally.blobs)} blobs,"
                f" fetched {size_text(max(0, tally.fetched_bytes))} in {duration_text(elapsed_s)}"
                f" ({size_text(max(0.0, rate))}/s)"
            )
        self._is_open = False

    def _tick(self) -> None:
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._interval_s
        tally = self._tally
        rate = tally.rate_bytes_s(now_s)
        shown_bytes = tally.show_total()
        left = f", {duration_text((tally.size_bytes - shown_bytes) / rate)} left" if rate > 0 else ""
        self._write(
            f"total {tally.percent(shown_bytes, tally.size_bytes)}%, {size_text(shown_bytes)} of"
            f" {size_text(tally.size_bytes)}, {size_text(rate)}/s{left},"
            f" {tally.done_count}/{len(tally.blobs)} blobs done"
        )

    def _write(self, line: str) -> None:
        if not self._is_open:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._is_open = False

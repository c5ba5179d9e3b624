"""What a pull took, for the report after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..digest import Digest
from .events import NoProgress, Progress
from .text import duration_text, size_text

_BACKLOG_BYTES = 32 * 1024 * 1024
_SHORTEST_JUDGED_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingReport:
    """Totals in stored bytes and seconds. `fetched_bytes` came over the wire, bytes fetched again included.

    `bottleneck` is `network`, `unpacking` (fetched bytes waited for the threads that hash and inflate), or ""
    where the pull was too short to tell.
    """

    seconds: float
    fetched_bytes: int
    thrown_away_bytes: int
    reused_bytes: int
    unpacked_bytes: int
    blobs: int
    bottleneck: str

    @property
    def rate_bytes_s(self) -> float:
        return self.fetched_bytes / self.seconds if self.seconds > 0 else 0.0

    def text(self) -> str:
        """One line for a person."""
        parts = [
            f"fetched {size_text(self.fetched_bytes)} in {duration_text(self.seconds)}"
            f" ({size_text(self.rate_bytes_s)}/s)"
        ]
        if self.reused_bytes:
            parts.append(f"{size_text(self.reused_bytes)} were here already")
        if self.thrown_away_bytes:
            parts.append(f"{size_text(self.thrown_away_bytes)} had to be fetched again")
        if self.bottleneck:
            parts.append(f"slowest: {self.bottleneck}")
        return ", ".join(parts)


class Timings:
    """Hands every call on to `inner` and adds up. Time runs from the first `start` to `close`."""

    def __init__(self, inner: Progress | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner if inner is not None else NoProgress()
        self._clock = clock
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._seen_s = 0.0
        self._fetched_bytes = 0
        self._thrown_away_bytes = 0
        self._reused_bytes = 0
        self._unpacked_bytes = 0
        self._backlog_s = 0.0
        self._blobs: set[Digest] = set()

    def start(self, *, label: str) -> None:
        if self._began_s is None:
            self._began_s = self._seen_s = self._clock()
        self._inner.start(label=label)

    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None:
        if digest not in self._blobs:
            self._blobs.add(digest)
            self._reused_bytes += have_bytes
        self._inner.add_blob(digest=digest, size_bytes=size_bytes, have_bytes=have_bytes)

    def fetched(self, *, digest: Digest, delta_bytes: int) -> None:
        self._watch()
        if delta_bytes >= 0:
            self._fetched_bytes += delta_bytes
        else:
            self._thrown_away_bytes -= delta_bytes
        self._inner.fetched(digest=digest, delta_bytes=delta_bytes)

    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None:
        self._watch()
        self._unpacked_bytes += delta_bytes
        self._inner.unpacked(digest=digest, delta_bytes=delta_bytes)

    def blob_done(self, *, digest: Digest) -> None:
        self._inner.blob_done(digest=digest)

    def message(self, text: str) -> None:
        self._inner.message(text)

    def close(self) -> None:
        if self._ended_s is None:
            self._ended_s = self._clock()
        self._inner.close()

    def report(self) -> TimingReport:
        """May be asked for at any time; final after `close`."""
        ended_s = self._ended_s if self._ended_s is not None else self._clock()
        seconds = ended_s - self._began_s if self._began_s is not None else 0.0
        bottleneck = ""
        if seconds >= _SHORTEST_JUDGED_S and self._fetched_bytes and self._unpacked_bytes:
            bottleneck = "unpacking" if self._backlog_s > seconds / 2 else "network"
        return TimingReport(
            seconds=seconds,
            fetched_bytes=self._fetched_bytes,
            thrown_away_bytes=self._thrown_away_bytes,
            reused_bytes=self._reused_bytes,
            unpacked_bytes=self._unpacked_bytes,
            blobs=len(self._blobs),
            bottleneck=bottleneck,
        )

    def _watch(self) -> None:
        """Count the time since the last call as waiting for threads if many fetched bytes lay unpacked."""
        now_s = self._clock()
        waiting_bytes = self._fetched_bytes - self._thrown_away_bytes - self._unpacked_bytes
        if waiting_bytes > _BACKLOG_BYTES:
            self._backlog_s += now_s - self._seen_s
        self._seen_s = now_s

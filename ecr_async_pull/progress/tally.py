"""What has been reported so far, added up: the state behind every way of showing it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..digest import Digest

_RATE_WINDOW_S = 10.0
_RATE_STEP_S = 0.5
_SHORTEST_WINDOW_S = 0.3


@dataclass(slots=True)
class BlobTally:
    """One blob, in stored bytes. `here_bytes` counts from the start; it falls when bytes are thrown away."""

    digest: Digest
    size_bytes: int
    here_bytes: int
    unpacked_bytes: int = 0
    shown_bytes: int = 0
    is_done: bool = False

    def show(self) -> int:
        """The bytes to show: never less than before (bytes fetched again hold the place)."""
        self.shown_bytes = max(self.shown_bytes, min(max(self.here_bytes, 0), self.size_bytes))
        return self.shown_bytes


class Tally:
    """All blobs of all references, each once. Takes the calls of `Progress`; costs O(1) a call."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.blobs: dict[Digest, BlobTally] = {}
        self.size_bytes = 0
        self.here_bytes = 0
        self.fetched_bytes = 0
        self.unpacked_bytes = 0
        self.done_count = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._shown_bytes = 0

    def start(self, *, label: str) -> None:
        self.labels.append(label)

    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None:
        if digest in self.blobs:
            return
        self.blobs[digest] = BlobTally(digest=digest, size_bytes=size_bytes, here_bytes=have_bytes)
        self.size_bytes += size_bytes
        self.here_bytes += have_bytes

    def fetched(self, *, digest: Digest, delta_bytes: int) -> None:
        self.here_bytes += delta_bytes
        self.fetched_bytes += delta_bytes
        blob = self.blobs.get(digest)
        if blob is not None:
            blob.here_bytes += delta_bytes

    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None:
        self.unpacked_bytes += delta_bytes
        blob = self.blobs.get(digest)
        if blob is not None:
            blob.unpacked_bytes += delta_bytes

    def blob_done(self, *, digest: Digest) -> None:
        blob = self.blobs.get(digest)
        if blob is not None and not blob.is_done:
            blob.is_done = True
            self.done_count += 1

    def show_total(self) -> int:
        """The bytes to show for everything: never falls, at most `size_bytes`."""
        self._shown_bytes = max(self._shown_bytes, min(max(self.here_bytes, 0), self.size_bytes))
        return self._shown_bytes

    def rate_bytes_s(self, now_s: float) -> float:
        """Bytes fetched a second over the last ten seconds; call it regularly. 0 if unknown."""
        samples = self._samples
        if self.fetched_bytes <= 0:
            samples.clear()
        if not samples or now_s - samples[-1][0] >= _RATE_STEP_S:
            samples.append((now_s, self.fetched_bytes))
            while len(samples) > 2 and now_s - samples[0][0] > _RATE_WINDOW_S:
                samples.popleft()
        since_s, before_bytes = samples[0]
        if now_s - since_s < _SHORTEST_WINDOW_S:
            return 0.0
        return max(0.0, (self.fetched_bytes - before_bytes) / (now_s - since_s))

    def percent(self, part_bytes: int, whole_bytes: int) -> int:
        """Rounded down, so that 100 means everything; an empty whole is complete."""
        return 100 if whole_bytes <= 0 else max(0, min(100, part_bytes * 100 // whole_bytes))

"""One JSON object a line, for programs.

Every object has `event` and `time_s` (seconds since the first line). Sizes are stored bytes, absolute, not
deltas; they fall where bytes have to be fetched again.

| event | further fields |
| --- | --- |
| `start` | `label` |
| `blob` | `digest`, `size_bytes`, `have_bytes` (here before the pull) |
| `progress` | `digest`, `size_bytes`, `here_bytes`, `unpacked_bytes`; at most every `interval_s` |
| `total` | the same sizes of all blobs, `fetched_bytes`, `blobs`, `blobs_done`, `rate_bytes_s` |
| `blob_done` | `digest`, `size_bytes` |
| `message` | `text` |
| `end` | the fields of `total`; always the last line |

More fields and events may come; a reader skips those that it doesn't know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TextIO

from ..digest import Digest
from .tally import Tally


class JsonLinesProgress:
    """Writes the events above. Goes silent when the stream breaks."""

    def __init__(
        self, stream: TextIO, *, interval_s: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._tally = Tally()
        self._moved: set[Digest] = set()
        self._began_s = clock()
        self._next_s = self._began_s + interval_s
        self._is_open = True

    def start(self, *, label: str) -> None:
        self._tally.start(label=label)
        self._write("start", label=label)

    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None:
        if digest in self._tally.blobs:
            return
        self._tally.add_blob(digest=digest, size_bytes=size_bytes, have_bytes=have_bytes)
        self._write("blob", digest=str(digest), size_bytes=size_bytes, have_bytes=have_bytes)

    def fetched(self, *, digest: Digest, delta_bytes: int) -> None:
        self._tally.fetched(digest=digest, delta_bytes=delta_bytes)
        self._moved.add(digest)
        self._tick()

    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None:
        self._tally.unpacked(digest=digest, delta_bytes=delta_bytes)
        self._moved.add(digest)
        self._tick()

    def blob_done(self, *, digest: Digest) -> None:
        blob = self._tally.blobs.get(digest)
        if blob is None or blob.is_done:
            return
        self._tally.blob_done(digest=digest)
        self._moved.discard(digest)
        self._write("blob_done", digest=str(digest), size_bytes=blob.size_bytes)

    def message(self, text: str) -> None:
        self._write("message", text=text)

    def close(self) -> None:
        if self._is_open:
            self._write("end", **self._totals(self._clock()))
        self._is_open = False

    def _tick(self) -> None:
        now_s = self._clock()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._interval_s
        for digest in self._moved:
            blob = self._tally.blobs.get(digest)
            if blob is not None:
                self._write(
                    "progress",
                    digest=str(digest),
                    size_bytes=blob.size_bytes,
                    here_bytes=blob.here_bytes,
                    unpacked_bytes=blob.unpacked_bytes,
                )
        self._moved.clear()
        self._write("total", **self._totals(now_s))

    def _totals(self, now_s: float) -> dict[str, int]:
        tally = self._tally
        return {
            "size_bytes": tally.size_bytes,
            "here_bytes": tally.here_bytes,
            "fetched_bytes": tally.fetched_bytes,
            "unpacked_bytes": tally.unpacked_bytes,
            "blobs": len(tally.blobs),
            "blobs_done": tally.done_count,
            "rate_bytes_s": round(tally.rate_bytes_s(now_s)),
        }

    def _write(self, event: str, **fields: str | int) -> None:
        if not self._is_open:
            return
        time_s = round(self._clock() - self._began_s, 3)
        try:
            self._stream.write(json.dumps({"event": event, "time_s": time_s, **fields}) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._is_open = False

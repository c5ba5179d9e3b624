"""Bars on a terminal: the total first, below it the layers under way. The only user of tqdm."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

from tqdm import tqdm

from ..digest import Digest
from .tally import BlobTally, Tally
from .text import duration_text, one_line, size_text

_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {tail}"
_LABEL_LENGTH = 28
_NARROW_COLUMNS = 76


class _Bar(tqdm):  # type: ignore[type-arg]
    """A line drawn only when told, with `tail` for what stands right of the bar."""

    monitor_interval = 0  # tqdm's own thread isn't wanted
    tail = ""

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        return {**super().format_dict, "tail": self.tail}


_Bar.set_lock(threading.RLock())  # all calls come from one thread; tqdm's default is a lock between processes


class BarProgress:
    """Draws at most every `interval_s`, so that thousands of events a second cost next to nothing.

    As many layers as fit the terminal are shown, those under way; finished ones disappear. Bytes that are
    fetched again don't move a bar back: it waits until they are made up for. A broken stream silences it.
    """

    def __init__(
        self, stream: TextIO, *, interval_s: float = 0.1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._tally = Tally()
        self._active: dict[Digest, BlobTally] = {}
        self._total: _Bar | None = None
        self._rows: list[_Bar] = []
        self._drawn: list[tuple[object, ...]] = []
        self._began_s = clock()
        self._next_s = 0.0
        self._is_open = True

    def start(self, *, label: str) -> None:
        self._tally.start(label=one_line(label))
        self._draw()

    def add_blob(self, *, digest: Digest, size_bytes: int, have_bytes: int) -> None:
        self._tally.add_blob(digest=digest, size_bytes=size_bytes, have_bytes=have_bytes)

    def fetched(self, *, digest: Digest, delta_bytes: int) -> None:
        self._tally.fetched(digest=digest, delta_bytes=delta_bytes)
        self._tick(digest)

    def unpacked(self, *, digest: Digest, delta_bytes: int) -> None:
        self._tally.unpacked(digest=digest, delta_bytes=delta_bytes)
        self._tick(digest)

    def blob_done(self, *, digest: Digest) -> None:
        self._tally.blob_done(digest=digest)
        self._active.pop(digest, None)
        self._tick(None)

    def message(self, text: str) -> None:
        if not self._is_open:
            return
        try:
            _Bar.write(one_line(text), file=self._stream)
        except (OSError, ValueError):
            self._give_up()

    def close(self) -> None:
        if not self._is_open:
            return
        self._active.clear()
        self._draw(is_last=True)
        try:
            for row in reversed(self._rows):
                row.close()
            if self._total is not None:
                self._total.close()
        except (OSError, ValueError):
            self._give_up()
        self._rows.clear()
        self._total = None
        self._is_open = False

    def _tick(self, digest: Digest | None) -> None:
        if digest is not None and digest not in self._active:
            blob = self._tally.blobs.get(digest)
            if blob is not None and not blob.is_done:
                self._active[digest] = blob
        if self._clock() >= self._next_s:
            self._draw()

    def _draw(self, *, is_last: bool = False) -> None:
        if not self._is_open:
            return
        now_s = self._clock()
        self._next_s = now_s + self._interval_s
        columns, lines = self._terminal_size()
        try:
            self._draw_total(now_s, columns, lines, is_last=is_last)
            # One line for the total, one for the cursor, and one free, so that nothing scrolls.
            shown = list(self._active.values())[: max(0, lines - 3)]
            for position, blob in enumerate(shown):
                self._draw_row(position, blob, columns, lines)
            self._clear_rows(len(shown))
        except (OSError, ValueError):
            self._give_up()

    def _draw_total(self, now_s: float, columns: int, lines: int, *, is_last: bool) -> None:
        tally = self._tally
        shown_bytes = tally.show_total()
        done = f"{tally.done_count}/{len(tally.blobs)} layers"
        if is_last:
            elapsed_s = now_s - self._began_s
            rate = max(0, tally.fetched_bytes) / elapsed_s if elapsed_s > 0 else 0.0
            last = duration_text(elapsed_s)
        else:
            rate = tally.rate_bytes_s(now_s)
            last = self._outlook(rate, shown_bytes)
        sizes = f"{size_text(shown_bytes)}/{size_text(tally.size_bytes)}"
        tail = f"{sizes:>15} {size_text(rate) + '/s':>9} {last:>9} {done}" if tally.blobs else last
        if columns < _NARROW_COLUMNS and tally.blobs:
            tail = f"{size_text(tally.size_bytes)} {last}"
        if self._total is None:
            self._total = self._new_bar(0, leaves=True)
        self._refresh(
            self._total,
            (columns, lines),
            desc=self._label(),
            part_bytes=shown_bytes,
            whole_bytes=tally.size_bytes,
            tail=tail,
        )

    def _outlook(self, rate_bytes_s: float, shown_bytes: int) -> str:
        tally = self._tally
        if not tally.blobs:
            return "asking the registry"
        left_bytes = tally.size_bytes - shown_bytes
        if left_bytes <= 0:
            return "" if tally.done_count == len(tally.blobs) else "unpacking"
        return f"{duration_text(left_bytes / rate_bytes_s)} left" if rate_bytes_s > 0 else ""

    def _draw_row(self, position: int, blob: BlobTally, columns: int, lines: int) -> None:
        if position == len(self._rows):
            self._rows.append(self._new_bar(position + 1, leaves=False))
            self._drawn.append(())
        shown_bytes = blob.show()
        sizes = f"{size_text(shown_bytes)}/{size_text(blob.size_bytes)}"
        state = "unpacking" if shown_bytes >= blob.size_bytes else ""
        now = (blob.digest, shown_bytes, state, columns, lines)
        if self._drawn[position] == now:
            return
        self._drawn[position] = now
        self._refresh(
            self._rows[position],
            (columns, lines),
            desc=blob.digest.short,
            part_bytes=shown_bytes,
            whole_bytes=blob.size_bytes,
            tail=f"{sizes:>15} {state}",
        )

    def _clear_rows(self, first: int) -> None:
        for position in range(first, len(self._rows)):
            if self._drawn[position]:
                self._rows[position].clear()
                self._drawn[position] = ()

    def _new_bar(self, position: int, *, leaves: bool) -> _Bar:
        bar = _Bar(
            file=self._stream,
            position=position,
            leave=leaves,
            bar_format=_FORMAT,
            total=1,
            delay=1e9,  # the constructor draws nothing: the first picture is ours
            ascii=None,
        )
        bar.delay = 0
        return bar

    def _refresh(
        self, bar: _Bar, size: tuple[int, int], *, desc: str, part_bytes: int, whole_bytes: int, tail: str
    ) -> None:
        bar.desc = f"{desc:<{max(12, len(self._label()))}}"
        # A blob of no bytes is complete at once; before anything is known the total is at 0 of 1.
        is_known = bool(self._tally.blobs)
        bar.n, bar.total = (part_bytes, whole_bytes) if whole_bytes else (int(is_known), 1)
        bar.tail = tail
        bar.ncols, bar.nrows = size
        bar.refresh()

    def _label(self) -> str:
        labels = self._tally.labels
        if len(labels) > 1:
            return f"{len(labels)} images"
        name = labels[0].rsplit("/", 1)[-1] if labels else "total"
        return name if len(name) <= _LABEL_LENGTH else name[: _LABEL_LENGTH - 1] + "…"

    def _terminal_size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 79, 24
        # The last column stays free: some terminals wrap as soon as it is written.
        return (size.columns or 80) - 1, size.lines or 24

    def _give_up(self) -> None:
        self._is_open = False
        for bar in (*self._rows, self._total):
            if bar is not None:
                bar.disable = True

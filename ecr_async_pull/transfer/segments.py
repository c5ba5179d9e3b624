"""Which bytes of one blob are here, under way, or still to be asked for: pure values, half-open ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..model.spans import Spans
from ..settings import MIB
from .tar_size import telling_range

SMALL_BLOB_BYTES = MIB
"""Up to this size a blob is one request."""
SMALL_RUN_BYTES = 8 * MIB
"""What comes to less than this in all spends its time waiting, not receiving."""


@dataclass(slots=True)
class Segment:
    """One range under way: bytes from `position` to `end` are still to come; `start` is where it began."""

    start: int
    end: int
    position: int

    @property
    def remaining_bytes(self) -> int:
        return self.end - self.position


class Segments:
    """The map of one blob of `size_bytes`.

    `urgent` is a range to be asked for before all others (the last bytes of a gzip stream name its size).
    """

    def __init__(
        self,
        size_bytes: int,
        *,
        landed: Iterable[tuple[int, int]] = (),
        urgent: tuple[int, int] | None = None,
    ) -> None:
        self.size_bytes = size_bytes
        self._landed = Spans(landed)
        self._gaps = list(self._landed.gaps(size_bytes))
        self._urgent: list[tuple[int, int]] = []
        if urgent is not None:
            self._set_urgent(*urgent)

    def _set_urgent(self, start: int, end: int) -> None:
        rest: list[tuple[int, int]] = []
        for gap_start, gap_end in self._gaps:
            inner = (max(gap_start, start), min(gap_end, end))
            if inner[0] >= inner[1]:
                rest.append((gap_start, gap_end))
                continue
            self._urgent.append(inner)
            rest += [gap for gap in ((gap_start, inner[0]), (inner[1], gap_end)) if gap[0] < gap[1]]
        self._gaps = rest

    @property
    def front(self) -> int:
        """All bytes before this offset have landed."""
        return self._landed.front

    @property
    def landed_bytes(self) -> int:
        return self._landed.total()

    @property
    def is_complete(self) -> bool:
        return self.front >= self.size_bytes

    @property
    def has_urgent(self) -> bool:
        return bool(self._urgent)

    @property
    def has_unasked(self) -> bool:
        return bool(self._gaps or self._urgent)

    def has(self, start: int, end: int) -> bool:
        """Whether all of this range has landed."""
        return self._landed.has(start, end)

    @property
    def unasked_bytes(self) -> int:
        return sum(end - start for start, end in (*self._urgent, *self._gaps))

    def take(self, segment_bytes: int) -> Segment | None:
        """The next range to ask for, of about `segment_bytes`; None if all are here or under way."""
        if self._urgent:
            start, end = self._urgent.pop(0)
        elif self._gaps:
            start, gap_end = self._gaps[0]
            end = min(gap_end, start + segment_bytes)
            if gap_end - end < segment_bytes // 4:
                end = gap_end  # no crumbs
            if end == gap_end:
                del self._gaps[0]
            else:
                self._gaps[0] = (end, gap_end)
        else:
            return None
        return Segment(start=start, end=end, position=start)

    def land(self, start: int, end: int) -> None:
        """These bytes are on disk now."""
        if start < end:
            self._landed.add(start, end)


def first_range(
    media_type: str, size_bytes: int, *, most_bytes: int, wants_tar_size: bool
) -> tuple[int, int] | None:
    """The range that is asked for before all else of a blob of which nothing is here.

    The whole of a small blob, if that is at most `most_bytes`, or the few bytes that tell a layer's inflated
    size; None where there is no such range.
    """
    if size_bytes <= SMALL_BLOB_BYTES:
        return (0, size_bytes) if 0 < size_bytes <= most_bytes else None
    return telling_range(media_type, size_bytes) if wants_tar_size else None

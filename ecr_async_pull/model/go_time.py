"""Times as Go's `time.Time` reads and writes them in JSON (`time/format.go`, `format_rfc3339.go`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DAY_S = 86_400
_LAYOUT = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    rb"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoTime:
    """`text` is RFC 3339 as Go writes it again; `unix_s` is rounded down, `offset_s` the zone's."""

    text: str
    unix_s: int
    offset_s: int

    @property
    def is_writable(self) -> bool:
        """Go reads offsets of 24 hours and more, and then refuses to write them."""
        return abs(self.offset_s) < _DAY_S


ZERO_TIME = GoTime(text="0001-01-01T00:00:00Z", unix_s=-62_135_596_800, offset_s=0)
UNIX_EPOCH = GoTime(text="1970-01-01T00:00:00Z", unix_s=0, offset_s=0)


def parse_time(token: bytes) -> GoTime | None:
    """The time in a quoted token, None where Go finds none.

    Beyond RFC 3339 Go takes a one-digit hour, a comma before the fraction and an offset's 60th minute;
    escapes are not undone.
    """
    match = _LAYOUT.fullmatch(token[1:-1]) if token[:1] == b'"' else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (
        1 <= month <= 12 and 1 <= day <= _days_in(year, month) and hour < 24 and minute < 60 and second < 60
    ):
        return None
    offset_s = 0
    if match[8] is not None:
        offset_hours, offset_minutes = int(match[9]), int(match[10])
        if offset_hours > 24 or offset_minutes > 60:
            return None
        offset_s = (offset_hours * 60 + offset_minutes) * 60 * (-1 if match[8] == b"-" else 1)
    fraction = (match[7] or b"")[:9].decode().rstrip("0")
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    text += f".{fraction}" if fraction else ""
    sign, minutes = "-" if offset_s < 0 else "+", abs(offset_s) // 60
    text += f"{sign}{minutes // 60:02}:{minutes % 60:02}" if offset_s else "Z"
    unix_s = _days_since_epoch(year, month, day) * _DAY_S + hour * 3600 + minute * 60 + second - offset_s
    return GoTime(text=text, unix_s=unix_s, offset_s=offset_s)


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days_since_epoch(year: int, month: int, day: int) -> int:
    """Days of the proleptic Gregorian calendar, which `datetime` only has from the year 1 on."""
    shifted = year - (month <= 2)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468

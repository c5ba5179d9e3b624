"""Amounts of bytes and of time, as people write them."""

from __future__ import annotations

import math
import re

from ..errors import UsageError

_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,24}(?:\.[0-9]{1,24})?) ?([A-Za-z]*)", re.ASCII)
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SPAN = re.compile(r"([0-9]{1,24}(?:\.[0-9]{1,24})?)([a-z]+)", re.ASCII)
_PREFIXES = ("", "k", "m", "g", "t", "p")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LIMIT_BYTES = 1 << 63
_LIMIT_S = 100 * 365 * 86400


def parse_bytes(text: str) -> int:
    """Parse `10G`, `8MiB`, `500k`, `1.5 GB`, `4096` into bytes; raises `UsageError`.

    `K`, `KiB`, `M`, `MiB`... are powers of 1024, as disk tools count; `kB`, `MB`, `GB` are powers of 1000.
    Case is ignored.
    """
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    factor = _factor(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{text!r} is no size; write a number and a unit, such as 10G, 500M or 8MiB")
    whole, _, fraction = match[1].partition(".")
    scale = int("1" + "0" * len(fraction))
    size_bytes = int(whole + fraction) * factor // scale
    if size_bytes >= _LIMIT_BYTES:
        raise UsageError(f"{text!r} is larger than any disk; write a size such as 10G")
    return size_bytes


def parse_duration_s(text: str) -> float:
    """Parse `14d`, `36h`, `90m`, `30s`, `2w`, `1d12h` into seconds.

    Raises `UsageError`, also for a bare number: it has no unit.
    """
    compact = text.strip().replace(" ", "").lower()
    parts = _SPAN.findall(compact)
    is_whole = "".join(number + unit for number, unit in parts) == compact
    if not parts or not is_whole or any(unit not in _SECONDS for _, unit in parts):
        raise UsageError(
            f"{text!r} is no time span; write a number and a unit (s, m, h, d, w), as in 14d or 36h"
        )
    total_s = math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
    if total_s > _LIMIT_S:
        raise UsageError(f"{text!r} is longer than a hundred years; write a time span such as 14d")
    return total_s


def format_bytes(size_bytes: int) -> str:
    """`512 B`, `1.5 KiB`, `12.3 MiB`, `118 GiB`: three digits that matter, powers of 1024."""
    value = float(abs(size_bytes))
    sign = "-" if size_bytes < 0 else ""
    if value < 1024:
        return f"{sign}{int(value)} B"
    power = 1
    value /= 1024
    # From 1023.5 on it would be shown as 1024 of this unit.
    while value >= 1023.5 and power < len(_UNITS):
        value /= 1024
        power += 1
    unit = _UNITS[power - 1]
    return f"{sign}{value:.0f} {unit}" if value >= 99.95 else f"{sign}{value:.1f} {unit}"


def _factor(unit: str) -> int | None:
    for power, prefix in enumerate(_PREFIXES):
        if unit in ({"", "b"} if power == 0 else {prefix, f"{prefix}ib"}):
            return 1 << 10 * power
        if power and unit == f"{prefix}b":
            return int(1000**power)
    return None

"""Amounts as people read them. Sizes are decimal (1 MB = 1000 kB), as engines show them."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size_text(size_bytes: float) -> str:
    """`0 B`, `999 B`, `1.50 kB`, `27.0 MB`, `128 GB`: three significant digits."""
    value = float(size_bytes)
    unit = _UNITS[0]
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if unit == _UNITS[0]:
        return f"{value:.0f} B"
    magnitude = abs(value)
    decimals = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def duration_text(seconds: float) -> str:
    """`4 s`, `2:05`, `1:00:07`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def one_line(text: str) -> str:
    """`text` without line breaks, escape sequences or other control characters: fit for a log."""
    return "".join(char if char.isprintable() else " " for char in text)

"""Which way of showing progress fits this stream."""

from __future__ import annotations

import os
from typing import TextIO

from ..errors import UsageError
from .events import NoProgress, Progress

MODES = ("auto", "bars", "lines", "jsonl", "none")


def choose(mode: str, stream: TextIO, quiet: bool) -> Progress:
    """`auto`: bars on a terminal, lines elsewhere. `quiet` silences all but `jsonl`.

    Raises `UsageError` for an unknown mode. tqdm is imported only where bars are shown.
    """
    if mode not in MODES:
        raise UsageError(f"unknown progress mode {mode!r}; choose one of {', '.join(MODES)}")
    if mode == "jsonl":
        from .jsonl import JsonLinesProgress

        return JsonLinesProgress(stream)
    if quiet or mode == "none":
        return NoProgress()
    if mode == "bars" or (mode == "auto" and _can_draw(stream)):
        from .bars import BarProgress

        return BarProgress(stream)
    from .lines import LineProgress

    return LineProgress(stream)


def _can_draw(stream: TextIO) -> bool:
    try:
        is_terminal = stream.isatty()
    except ValueError:
        return False
    return is_terminal and os.environ.get("TERM", "") != "dumb"

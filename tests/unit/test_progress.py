"""Every way of showing progress, on real streams; the bars on a pseudo terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pytest

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import UsageError
from ecr_async_pull.progress.bars import BarProgress
from ecr_async_pull.progress.choose import choose
from ecr_async_pull.progress.events import NoProgress, Progress
from ecr_async_pull.progress.jsonl import JsonLinesProgress
from ecr_async_pull.progress.lines import LineProgress
from ecr_async_pull.progress.tally import Tally
from ecr_async_pull.progress.text import duration_text, one_line, size_text
from ecr_async_pull.progress.timings import Timings

MB = 1_000_000


def digest_of(number: int) -> Digest:
    return Digest.of(str(number).encode())


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Terminal:
    """A pseudo terminal. A thread reads what is written to it, so that it never fills."""

    def __init__(self, master: int, stream: TextIO) -> None:
        self.stream = stream
        self._master = master
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self._parts.append(data)

    def output(self) -> str:
        """Everything that was written; the terminal is closed for that."""
        self.stream.close()
        self._reader.join(timeout=20)
        return b"".join(self._parts).decode()


@contextmanager
def terminal(columns: int, lines: int) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    screen = Terminal(master, os.fdopen(slave, "w", encoding="utf-8"))
    try:
        yield screen
    finally:
        screen.output()
        os.close(master)


def drawn_lines(output: str) -> list[str]:
    """Each line that was drawn, in order, without escape sequences."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", output)
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


def run_through(progress: Progress, blobs: int, size_bytes: int = MB) -> None:
    progress.start(label="registry.example.com/team/app:1")
    for number in range(blobs):
        progress.add_blob(digest=digest_of(number), size_bytes=size_bytes, have_bytes=0)
    for _ in range(2):
        for number in range(blobs):
            progress.fetched(digest=digest_of(number), delta_bytes=size_bytes // 2)
    for number in range(blobs):
        progress.unpacked(digest=digest_of(number), delta_bytes=size_bytes)
        progress.blob_done(digest=digest_of(number))


def test_bars_of_127_layers_fit_the_terminal_and_end_below_a_full_total() -> None:
    with terminal(columns=100, lines=24) as screen:
        progress = BarProgress(screen.stream, interval_s=0.0)
        run_through(progress, blobs=127)
        progress.close()
        output = screen.output()
    assert max(len(line) for line in drawn_lines(output)) < 100
    assert output.count("\n", 0, output.index("app:1")) == 0
    # The farthest move down is to the lowest bar: 24 lines less total, cursor and a free one.
    assert max(len(run) for run in re.findall(r"(?:\r?\n)+", output)) // 2 == 21
    last = drawn_lines(output)[-1]
    assert "100%" in last
    assert "127/127 layers" in last
    assert output.endswith("\n")


def test_a_bar_never_goes_back_when_bytes_are_fetched_again() -> None:
    with terminal(columns=100, lines=10) as screen:
        progress = BarProgress(screen.stream, interval_s=0.0)
        progress.start(label="app:1")
        progress.add_blob(digest=digest_of(0), size_bytes=100, have_bytes=20)
        for delta in (40, -60, 10, 30, 40, 40):
            progress.fetched(digest=digest_of(0), delta_bytes=delta)
        progress.close()
        output = screen.output()
    shown = [int(part) for part in re.findall(r"(\d+) B/100 B", output)]
    assert shown[0] < 100
    assert shown == sorted(shown)
    assert shown[-1] == 100


def test_bars_are_drawn_at_most_once_an_interval() -> None:
    clock = Clock()
    with terminal(columns=100, lines=24) as screen:
        progress = BarProgress(screen.stream, interval_s=0.1, clock=clock)
        progress.start(label="app:1")
        progress.add_blob(digest=digest_of(0), size_bytes=100_000, have_bytes=0)
        for _ in range(10_000):
            progress.fetched(digest=digest_of(0), delta_bytes=1)
        clock.now_s += 0.11
        progress.fetched(digest=digest_of(0), delta_bytes=1)
        output = screen.output()
    assert len([line for line in drawn_lines(output) if line.startswith("app:1")]) == 2
    assert "10.0 kB/100 kB" in output


def test_a_message_stands_above_the_bars_without_its_control_characters() -> None:
    with terminal(columns=100, lines=24) as screen:
        progress = BarProgress(screen.stream, interval_s=0.0)
        progress.start(label="app:1")
        progress.message("retrying\x1b[2J after\na reset")
        progress.close()
        output = screen.output()
    assert "retrying [2J after a reset" in drawn_lines(output)
    assert "\x1b[2J" not in output


def test_bars_take_what_a_registry_may_do_to_them() -> None:
    """No size, more bytes than promised, a blob added twice, a blob nobody announced, a second close."""
    with terminal(columns=20, lines=2) as screen:
        progress = BarProgress(screen.stream, interval_s=0.0)
        progress.start(label="app:1")
        progress.add_blob(digest=digest_of(0), size_bytes=0, have_bytes=0)
        progress.add_blob(digest=digest_of(1), size_bytes=10, have_bytes=0)
        progress.add_blob(digest=digest_of(1), size_bytes=10, have_bytes=0)
        progress.fetched(digest=digest_of(1), delta_bytes=50)
        progress.fetched(digest=digest_of(2), delta_bytes=-5)
        progress.blob_done(digest=digest_of(0))
        progress.blob_done(digest=digest_of(1))
        progress.blob_done(digest=digest_of(1))
        progress.blob_done(digest=digest_of(2))
        progress.close()
        progress.close()
        progress.message("too late")
        output = screen.output()
    assert "100%" in output
    assert "too late" not in output


@pytest.mark.parametrize("mode", ["bars", "lines", "jsonl"])
def test_a_stream_that_breaks_silences_the_progress_and_not_the_pull(mode: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", buffering=1)
    progress = choose(mode, stream, quiet=False)
    run_through(progress, blobs=3)
    progress.message("still here")
    progress.close()
    with suppress(BrokenPipeError):
        stream.close()


def test_lines_tell_each_finished_blob_and_a_total_every_interval() -> None:
    clock = Clock()
    stream = io.StringIO()
    progress = LineProgress(stream, interval_s=10, clock=clock)
    progress.start(label="r.example/app:1\x1b[31m")
    progress.add_blob(digest=digest_of(0), size_bytes=30 * MB, have_bytes=0)
    progress.add_blob(digest=digest_of(1), size_bytes=10 * MB, have_bytes=10 * MB)
    progress.blob_done(digest=digest_of(1))
    progress.fetched(digest=digest_of(0), delta_bytes=1)
    for _ in range(11):
        clock.now_s += 1
        progress.fetched(digest=digest_of(0), delta_bytes=1 * MB)
    progress.fetched(digest=digest_of(0), delta_bytes=19 * MB - 1)
    progress.blob_done(digest=digest_of(0))
    progress.close()
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "pulling r.example/app:1 [31m"
    assert lines[1] == f"{digest_of(1).short} done, 10.0 MB (1/2)"
    assert lines[2].startswith("total 50%, 20.0 MB of 40.0 MB")
    assert lines[3] == f"{digest_of(0).short} done, 30.0 MB (2/2)"
    assert lines[4] == "2/2 blobs, fetched 30.0 MB in 11 s (2.73 MB/s)"
    assert len(lines) == 5
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_total_line_never_shows_less_than_the_one_before() -> None:
    clock = Clock()
    stream = io.StringIO()
    progress = LineProgress(stream, interval_s=1, clock=clock)
    progress.add_blob(digest=digest_of(0), size_bytes=100, have_bytes=0)
    for delta in (60, -60, 10, 90):
        clock.now_s += 1
        progress.fetched(digest=digest_of(0), delta_bytes=delta)
    percents = [int(part) for part in re.findall(r"total (\d+)%", stream.getvalue())]
    assert percents == [60, 60, 60, 100]


def test_json_lines_are_objects_with_absolute_bytes_and_end_with_end() -> None:
    clock = Clock()
    stream = io.StringIO()
    progress = JsonLinesProgress(stream, interval_s=1, clock=clock)
    progress.start(label="app:1\u2028")
    progress.add_blob(digest=digest_of(0), size_bytes=100, have_bytes=5)
    progress.add_blob(digest=digest_of(0), size_bytes=100, have_bytes=5)
    progress.fetched(digest=digest_of(0), delta_bytes=50)
    clock.now_s += 1
    progress.fetched(digest=digest_of(0), delta_bytes=-30)
    progress.fetched(digest=digest_of(0), delta_bytes=75)
    progress.unpacked(digest=digest_of(0), delta_bytes=100)
    progress.blob_done(digest=digest_of(0))
    progress.message("line\nbreak")
    progress.close()
    events = [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]
    assert [event["event"] for event in events] == [
        "start",
        "blob",
        "progress",
        "total",
        "blob_done",
        "message",
        "end",
    ]
    assert events[2]["here_bytes"] == 25
    assert events[2]["digest"] == str(digest_of(0))
    assert events[2]["time_s"] == 1.0
    assert events[5]["text"] == "line\nbreak"
    assert events[6]["here_bytes"] == 100
    assert events[6]["blobs_done"] == events[6]["blobs"] == 1


def test_timings_count_what_came_over_the_wire_and_what_was_thrown_away() -> None:
    clock = Clock()
    stream = io.StringIO()
    timings = Timings(LineProgress(stream, clock=clock), clock=clock)
    timings.start(label="app:1")
    timings.add_blob(digest=digest_of(0), size_bytes=100 * MB, have_bytes=10 * MB)
    timings.fetched(digest=digest_of(0), delta_bytes=50 * MB)
    timings.fetched(digest=digest_of(0), delta_bytes=-20 * MB)
    clock.now_s += 4
    timings.fetched(digest=digest_of(0), delta_bytes=60 * MB)
    timings.unpacked(digest=digest_of(0), delta_bytes=100 * MB)
    timings.blob_done(digest=digest_of(0))
    timings.close()
    clock.now_s += 100
    report = timings.report()
    assert (report.fetched_bytes, report.thrown_away_bytes, report.reused_bytes) == (
        110 * MB,
        20 * MB,
        10 * MB,
    )
    assert report.seconds == 4.0
    assert report.rate_bytes_s == 27.5 * MB
    assert "done, 100 MB (1/1)" in stream.getvalue()
    assert report.text().startswith("fetched 110 MB in 4 s (27.5 MB/s), 10.0 MB were here already")


@pytest.mark.parametrize(("backlog_mb", "bottleneck"), [(200, "unpacking"), (1, "network")])
def test_the_bottleneck_is_where_bytes_wait(backlog_mb: int, bottleneck: str) -> None:
    clock = Clock()
    timings = Timings(clock=clock)
    timings.start(label="app:1")
    timings.add_blob(digest=digest_of(0), size_bytes=300 * MB, have_bytes=0)
    timings.fetched(digest=digest_of(0), delta_bytes=backlog_mb * MB)
    clock.now_s += 3
    timings.unpacked(digest=digest_of(0), delta_bytes=backlog_mb * MB)
    timings.close()
    assert timings.report().bottleneck == bottleneck


def test_a_report_before_anything_happened_divides_by_nothing() -> None:
    report = Timings().report()
    assert report.rate_bytes_s == 0.0
    assert report.bottleneck == ""


def test_the_rate_is_of_the_last_ten_seconds_and_falls_when_nothing_arrives() -> None:
    tally = Tally()
    tally.add_blob(digest=digest_of(0), size_bytes=1000 * MB, have_bytes=0)
    for second in range(20):
        tally.fetched(digest=digest_of(0), delta_bytes=MB)
        tally.rate_bytes_s(float(second))
    assert tally.rate_bytes_s(20.0) == pytest.approx(0.9 * MB, rel=0.1)
    for second in range(21, 31):
        tally.rate_bytes_s(float(second))
    assert tally.rate_bytes_s(31.0) < 0.1 * MB


def test_bars_are_for_terminals_and_lines_for_everything_else() -> None:
    assert isinstance(choose("auto", io.StringIO(), quiet=False), LineProgress)
    with terminal(columns=80, lines=24) as screen:
        assert isinstance(choose("auto", screen.stream, quiet=False), BarProgress)
        assert isinstance(choose("auto", screen.stream, quiet=True), NoProgress)
        assert isinstance(choose("lines", screen.stream, quiet=False), LineProgress)
        assert isinstance(choose("none", screen.stream, quiet=False), NoProgress)
        assert isinstance(choose("jsonl", screen.stream, quiet=True), JsonLinesProgress)


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal(columns=80, lines=24) as screen:
        assert isinstance(choose("auto", screen.stream, quiet=False), LineProgress)


def test_an_unknown_mode_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match="auto, bars, lines, jsonl, none"):
        choose("fancy", io.StringIO(), quiet=False)


def test_tqdm_is_not_imported_where_no_bars_are_shown() -> None:
    program = (
        "import sys, io; from ecr_async_pull.progress.choose import choose;"
        "choose('auto', io.StringIO(), False); choose('jsonl', io.StringIO(), False);"
        "sys.exit('tqdm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_600, "1.00 MB"),
        (27_000_000, "27.0 MB"),
        (4e11, "400 GB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(size_bytes: float, text: str) -> None:
    assert size_text(size_bytes) == text


def test_durations_and_lines_are_short() -> None:
    assert [duration_text(seconds) for seconds in (-1, 4.4, 125, 3607)] == ["0 s", "4 s", "2:05", "1:00:07"]
    assert one_line("a\r\nb\x07\u2028é") == "a  b  é"

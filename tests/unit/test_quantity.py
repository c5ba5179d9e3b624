"""Amounts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecr_async_pull.errors import UsageError
from ecr_async_pull.model.quantity import format_bytes, parse_bytes, parse_duration_s


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512b", 512),
        ("500k", 512_000),
        ("500 kB", 500_000),
        ("8MiB", 8 << 20),
        ("10G", 10 << 30),
        ("10g", 10 << 30),
        ("10GB", 10_000_000_000),
        ("1.5G", 3 << 29),
        (" 2 TiB ", 2 << 40),
        ("0.1k", 102),
    ],
)
def test_sizes_count_in_1024_but_for_the_decimal_units(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1e3", "10 X", "10GiBs", "1,5G", "٣G", "9999P", "1" * 5000, "10G 5M"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="10G"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("90m", 5400),
        ("36h", 129_600),
        ("14d", 1_209_600),
        ("2w", 1_209_600),
        ("1d12h", 129_600),
        ("1.5h", 5400),
    ],
)
def test_time_spans_add_up(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "14", "d", "14 days ago", "14x", "-1d", "1d2", "d1", "99999w", "1" * 5000 + "d"]
)
def test_what_is_no_time_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="14d"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (102_400, "100 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (867 << 20, "867 MiB"),
        (10 << 30, "10.0 GiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_bytes_are_shown_with_about_three_digits(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@given(st.integers(min_value=0, max_value=1 << 60))
def test_what_is_shown_can_be_read_again_and_is_near(size_bytes: int) -> None:
    assert abs(parse_bytes(format_bytes(size_bytes)) - size_bytes) <= max(size_bytes * 0.05, 0)

"""Platforms: spelling, matching and the choice in an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from ecr_async_pull.errors import UsageError
from ecr_async_pull.model.platform import Platform, choose, rank


@dataclass(frozen=True)
class Entry:
    name: str
    platform: Platform | None
    annotations: Mapping[str, str] = field(default_factory=dict)


def entry(text: str) -> Entry:
    system, architecture, *variant = text.split("/")
    return Entry(text, Platform(os=system, architecture=architecture, variant="".join(variant)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_spellings_of_one_platform_become_one(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "linux", "amd64", "linux/", "/amd64", "linux/arm/v7/x", "linux amd64", "a/b c"]
)
def test_nonsense_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="invalid platform"):
        Platform.parse(text)


def test_the_host_default_is_linux() -> None:
    assert Platform.of_host().os == "linux"
    assert Platform.of_host().architecture not in {"", "x86_64", "aarch64"}


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/arm64", ["linux/arm64/v8", "linux/amd64"], "linux/arm64/v8"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm64", ["linux/arm/v7"], None),
        ("linux/amd64", ["linux/386"], None),
        ("linux/amd64/v3", ["linux/amd64"], None),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("unknown/unknown", ["unknown/unknown"], None),
    ],
)
def test_only_older_variants_of_32_bit_arm_may_stand_in(
    wanted: str, offered: list[str], expected: str | None
) -> None:
    chosen = choose([entry(text) for text in offered], Platform.parse(wanted))
    assert (chosen.name if chosen else None) == expected


def test_the_first_of_several_matches_wins_and_entries_without_platform_come_last() -> None:
    entries = [
        Entry("bare", None),
        Entry("one", Platform.parse("linux/amd64")),
        Entry("two", Platform.parse("linux/amd64")),
    ]
    assert [found.name for found in rank(entries, Platform.parse("linux/amd64"))] == ["one", "two", "bare"]


def test_an_attestation_never_matches_whatever_platform_it_claims() -> None:
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    entries = [
        Entry("attestation", Platform.parse("linux/amd64"), annotations),
        Entry("bare", None, annotations),
    ]
    assert choose(entries, Platform.parse("linux/amd64")) is None


def test_windows_builds_must_agree_where_both_sides_name_one() -> None:
    image = Platform(
        os="windows", architecture="amd64", os_version="10.0.17763.5329", os_features=("win32k",)
    )
    assert image.matches(Platform(os="windows", architecture="amd64", os_version="10.0.17763.1"))
    assert not image.matches(Platform(os="windows", architecture="amd64", os_version="10.0.20348.1"))
    assert image.matches(Platform(os="windows", architecture="amd64"))


def test_features_that_were_not_asked_for_do_not_match() -> None:
    image = Platform(os="linux", architecture="amd64", os_features=("sse4",))
    assert not image.matches(Platform.parse("linux/amd64"))

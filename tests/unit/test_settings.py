"""Settings: absurd ones are refused where they are made, with a line that says what would do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ecr_async_pull.errors import UsageError
from ecr_async_pull.settings import ArchiveFormat, PullSettings, TransferSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_connections": 0},
        {"max_connections": 257},
        {"max_workers": -1},
        {"max_workers": 65},
        {"segment_bytes": 1},
        {"segment_bytes": 2 << 30},
        {"limit_rate_bytes_s": 0},
        {"attempts": 0},
        {"connect_timeout_s": 0},
        {"idle_timeout_s": -1},
    ],
    ids=str,
)
def test_absurd_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        TransferSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"archive_format": ArchiveFormat.DOCKER_LEGACY, "keep_compressed": True}, "--keep-compressed"),
        ({"is_all_platforms": True}, "--format oci"),
        ({"is_offline": True}, "--cache-dir"),
    ],
)
def test_what_excludes_each_other_is_refused(wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        PullSettings(**wrong)


def test_workers_are_as_many_as_there_are_cores() -> None:
    assert 1 <= TransferSettings().max_workers <= 8


@pytest.mark.parametrize(
    ("archive_format", "keeps", "inflates"),
    [
        (ArchiveFormat.DOCKER, False, True),
        (ArchiveFormat.DOCKER, True, False),
        (ArchiveFormat.DOCKER_LEGACY, False, True),
        (ArchiveFormat.OCI_ARCHIVE, False, False),
        (ArchiveFormat.OCI_DIRECTORY, False, False),
    ],
)
def test_layers_lie_inflated_in_dockers_own_archives(
    archive_format: ArchiveFormat, keeps: bool, inflates: bool
) -> None:
    assert PullSettings(archive_format=archive_format, keep_compressed=keeps).inflates == inflates


def test_settings_never_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PullSettings().resumes = False  # type: ignore[misc]

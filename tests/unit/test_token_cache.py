"""Tokens between runs: who may read them, for whom they count and how long."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from ecr_async_pull.auth.token_cache import CachedToken, TokenCache, identity_key, use_until

KEY = "k" * 64


def token(*, life_s: float = 3600, text: str = "Basic secret") -> CachedToken:
    return CachedToken(authorization=text, use_until_s=time.time() + life_s)


def test_a_kept_token_is_found_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "tokens"
    TokenCache(directory).store(KEY, token())
    kept = TokenCache(directory).load(KEY)
    assert kept is not None
    assert kept.authorization == "Basic secret"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()] == [0o600]


def test_a_token_is_not_shown_by_repr() -> None:
    assert "secret" not in repr(token())


def test_a_file_that_others_can_read_is_not_believed(tmp_path: Path) -> None:
    TokenCache(tmp_path).store(KEY, token())
    (tmp_path / f"{KEY}.json").chmod(0o644)
    assert TokenCache(tmp_path).load(KEY) is None


@pytest.mark.parametrize("life_s", [-1.0, 13 * 3600.0])
def test_a_token_past_its_time_or_from_the_future_is_not_used(tmp_path: Path, life_s: float) -> None:
    TokenCache(tmp_path).store(KEY, token(life_s=life_s))
    assert TokenCache(tmp_path).load(KEY) is None


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1", b"\xff", b'{"authorization": "a\\nb", "use_until_s": 9e99}']
)
def test_a_broken_file_counts_as_nothing_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{KEY}.json"
    path.write_bytes(content)
    path.chmod(0o600)
    assert TokenCache(tmp_path).load(KEY) is None


def test_only_the_refused_token_is_forgotten(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    cache.store(KEY, token(text="Basic new"))
    cache.forget(KEY, refused="Basic old")
    assert cache.load(KEY) is not None
    cache.forget(KEY, refused="Basic new")
    assert cache.load(KEY) is None


def test_disk_trouble_keeps_nothing_and_raises_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cache = TokenCache(blocked / "tokens")
    cache.store(KEY, token())
    assert cache.load(KEY) is None
    cache.forget(KEY, refused="x")


def test_without_a_directory_nothing_is_kept() -> None:
    cache = TokenCache(None)
    cache.store(KEY, token())
    cache.forget(KEY, refused="x")
    assert cache.load(KEY) is None


@pytest.mark.parametrize(
    ("expires_at_s", "expected"),
    [
        (1000 + 12 * 3600, 1000 + 12 * 3600 - 600),
        (1000 + 300, 1000 + 150),
        (999, 1000 + 3600),
        (None, 1000 + 3600),
        (1000 + 10**9, 1000 + 12 * 3600 - 600),
    ],
)
def test_use_ends_ten_minutes_early_and_an_absurd_expiry_stands_for_an_hour(
    expires_at_s: float | None, expected: float
) -> None:
    assert use_until(expires_at_s, now_s=1000) == expected


def test_whatever_decides_who_we_are_changes_the_key(tmp_path: Path) -> None:
    config = tmp_path / ".aws" / "config"
    config.parent.mkdir()
    config.write_text("[default]\n")
    base = {"HOME": str(tmp_path), "AWS_PROFILE": "a"}

    def key(region: str = "r", variant: str = "", **changes: str) -> str:
        return identity_key(region=region, variant=variant, environment={**base, **changes})

    first = key()
    keys = [
        first,
        key(region="r2"),
        key(variant="fips"),
        key(AWS_PROFILE="b"),
        key(AWS_ACCESS_KEY_ID="x"),
        key(AWS_SECRET_ACCESS_KEY="x"),
        key(AWS_ENDPOINT_URL_ECR="https://x"),
        key(AWS_CONFIG_FILE=str(tmp_path / "other")),
    ]
    os.utime(config, ns=(1, 1))
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key(PATH="/elsewhere", AWS_PAGER="less")

"""One frozen object of limits and knobs; units in the names. Nothing here reads the environment."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from pathlib import Path

from .errors import UsageError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class ArchiveFormat(enum.Enum):
    """What is written. DOCKER with `keep_compressed` keeps blobs as stored."""

    DOCKER = "docker-archive"
    DOCKER_LEGACY = "docker-legacy"
    OCI_ARCHIVE = "oci-archive"
    OCI_DIRECTORY = "oci"


class Verify(enum.Enum):
    """FULL: stored digest and diff_id of every layer. STORED: the first alone where nothing is inflated."""

    FULL = "full"
    STORED = "stored"


class PullPolicy(enum.Enum):
    """ALWAYS asks the registry whether the tag moved; MISSING asks only for what isn't here."""

    ALWAYS = "always"
    MISSING = "missing"


def _default_workers() -> int:
    return max(1, min(len(os.sched_getaffinity(0)), 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """The engine's limits. Defaults need no tuning.

    `max_connections`: connections to storage hosts at once, over all blobs. `max_workers`: threads that
    hash and inflate. `segment_bytes`: the largest range asked for in one request.
    `limit_rate_bytes_s`: total download rate, None for no limit. `attempts`: at one range without a byte of
    progress; with the growing waits in between, a network that is lost is given up after half a minute.
    """

    max_connections: int = 32
    max_workers: int = 0
    segment_bytes: int = 8 * MIB
    limit_rate_bytes_s: int | None = None
    connect_timeout_s: float = 15.0
    idle_timeout_s: float = 30.0
    attempts: int = 7
    handles_stragglers: bool = True

    def __post_init__(self) -> None:
        if self.max_workers == 0:
            object.__setattr__(self, "max_workers", _default_workers())
        _demand(1 <= self.max_connections <= 256, "max connections must be between 1 and 256")
        _demand(1 <= self.max_workers <= 64, "max workers must be between 1 and 64")
        _demand(64 * KIB <= self.segment_bytes <= GIB, "segment size must be between 64 KiB and 1 GiB")
        _demand(
            self.limit_rate_bytes_s is None or self.limit_rate_bytes_s >= 16 * KIB,
            "rate limit must be at least 16 KiB a second",
        )
        _demand(self.attempts >= 1, "attempts must be at least 1")
        _demand(self.connect_timeout_s > 0 and self.idle_timeout_s > 0, "timeouts must be above 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """How hosts are reached. `ca_file`: PEM bundle for *all* connections, None for the system's.

    `trusts_env_proxies`: HTTPS_PROXY and NO_PROXY apply. `plain_http`: speak HTTP to the registries.
    `docker_config`: docker's config.json with logins for registries that aren't ECR, None for none.
    `token_cache_dir`: where tokens are kept between runs (0700, files 0600), None for nowhere.
    """

    ca_file: Path | None = None
    trusts_env_proxies: bool = True
    plain_http: bool = False
    docker_config: Path | None = None
    token_cache_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSettings:
    """How images are pulled, all of them in one run.

    `cache_dir`: blobs that runs share, None for none; `checks_cache` hashes what comes out of it too.
    `is_offline`: nothing but the cache is asked. `state_dir`: where it is remembered which output is what,
    None for nowhere. `resumes`: go on from what a broken run left. `keeps_partial`: leave that for the next
    run even when interrupted on purpose. `is_fail_fast`: the first failure ends the others.
    """

    archive_format: ArchiveFormat = ArchiveFormat.DOCKER
    keep_compressed: bool = False
    is_all_platforms: bool = False
    verify: Verify = Verify.FULL
    policy: PullPolicy = PullPolicy.ALWAYS
    cache_dir: Path | None = None
    checks_cache: bool = False
    is_offline: bool = False
    state_dir: Path | None = None
    resumes: bool = True
    keeps_partial: bool = False
    is_fail_fast: bool = False
    connection: ConnectionSettings = field(default_factory=ConnectionSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)

    def __post_init__(self) -> None:
        is_oci = self.archive_format in (ArchiveFormat.OCI_ARCHIVE, ArchiveFormat.OCI_DIRECTORY)
        _demand(
            not self.keep_compressed or self.archive_format is not ArchiveFormat.DOCKER_LEGACY,
            "docker-legacy archives hold inflated layers only; leave out --keep-compressed"
            " or use --format docker-archive",
        )
        _demand(
            not self.is_all_platforms or is_oci,
            "--all-platforms needs --format oci or oci-archive: a docker archive holds one platform",
        )
        _demand(
            not self.is_offline or self.cache_dir is not None,
            "--offline needs a cache: name it with --cache-dir or ECR_ASYNC_PULL_CACHE_DIR",
        )

    @property
    def inflates(self) -> bool:
        """Whether layers lie inflated in what is written."""
        return self.archive_format is ArchiveFormat.DOCKER_LEGACY or (
            self.archive_format is ArchiveFormat.DOCKER and not self.keep_compressed
        )


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)

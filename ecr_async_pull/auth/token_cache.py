"""Tokens kept between runs, so that an up-to-date pull needs no AWS call (and no AWS library).

One file a principal and region under a directory of mode 0700; files are 0600, replaced atomically. The
key covers everything that decides who we are, so another profile or changed keys never meet an old token.
All methods block for a small file; disk trouble of any kind means "nothing kept", never an error.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..digest import Digest

_log = logging.getLogger(__name__)

_MARGIN_S = 600.0
_UNKNOWN_LIFE_S = 3600.0
_LONGEST_LIFE_S = 12 * 3600.0
_FILE_CAP_BYTES = 256 * 1024
_IRRELEVANT = frozenset(
    {
        "AWS_CA_BUNDLE",
        "AWS_CLI_AUTO_PROMPT",
        "AWS_DEFAULT_OUTPUT",
        "AWS_EXECUTION_ENV",
        "AWS_MAX_ATTEMPTS",
        "AWS_PAGER",
        "AWS_RETRY_MODE",
    }
)


class _Entry(msgspec.Struct, frozen=True):
    authorization: str
    use_until_s: float
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedToken:
    """`authorization` is the whole header value; `use_until_s` is Unix seconds."""

    authorization: str = field(repr=False)
    use_until_s: float


def use_until(expires_at_s: float | None, *, now_s: float) -> float:
    """When to stop using a token issued now: ten minutes early (at half its life if that is later).

    An expiry that is unknown or already past (a wrong clock or a wrong server) stands for one hour.
    """
    if expires_at_s is None or expires_at_s <= now_s:
        return now_s + _UNKNOWN_LIFE_S
    life_s = min(expires_at_s - now_s, _LONGEST_LIFE_S)
    return now_s + max(life_s - _MARGIN_S, life_s / 2)


def identity_key(*, region: str, variant: str, environment: Mapping[str, str]) -> str:
    """A name for "this principal at this endpoint". Blocks: looks at the shared AWS files' size and time.

    `variant` tells endpoints of one region apart (FIPS, dual-stack).
    """
    home = environment.get("HOME", "")
    shared = (
        environment.get("AWS_CONFIG_FILE") or f"{home}/.aws/config",
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials",
    )
    facts = [region, variant, home]
    facts += [
        f"{name}={value}"
        for name, value in sorted(environment.items())
        if name.startswith("AWS_") and name not in _IRRELEVANT
    ]
    for path in shared:
        try:
            status = os.stat(_expanded(path, home=home))
            facts.append(f"{path} {status.st_size} {status.st_mtime_ns}")
        except (OSError, ValueError):
            facts.append(f"{path} absent")
    return Digest.of("\0".join(facts).encode("utf-8", "surrogateescape")).hex


def _expanded(path: str, *, home: str) -> str:
    return f"{home}{path[1:]}" if path.startswith("~/") else path


class TokenCache:
    """The files under `directory`; with None, nothing is ever kept or found."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def load(self, key: str) -> CachedToken | None:
        """The token kept under this key if it may still be used."""
        if self._directory is None:
            return None
        try:
            with (self._directory / f"{key}.json").open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                    _log.debug("a kept token is open to others; not used")
                    return None
                entry = msgspec.json.decode(file.read(_FILE_CAP_BYTES), type=_Entry)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        remaining_s = entry.use_until_s - time.time()
        if (
            entry.version != 1
            or not 0 < remaining_s <= _LONGEST_LIFE_S
            or not entry.authorization.isprintable()
        ):
            return None
        return CachedToken(authorization=entry.authorization, use_until_s=entry.use_until_s)

    def store(self, key: str, token: CachedToken) -> None:
        """Keep a token; one that is as good as expired is not kept."""
        if self._directory is None or token.use_until_s <= time.time():
            return
        entry = _Entry(authorization=token.authorization, use_until_s=token.use_until_s)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._directory.stat().st_uid == os.geteuid():
                self._directory.chmod(0o700)
            descriptor, partial = tempfile.mkstemp(dir=self._directory, prefix=".token-")
            try:
                with open(descriptor, "wb") as file:
                    file.write(msgspec.json.encode(entry))
                os.replace(partial, self._directory / f"{key}.json")
            except BaseException:
                with suppress(OSError):
                    os.unlink(partial)
                raise
        except OSError as error:
            _log.debug("token not kept: %s", error.strerror)

    def forget(self, key: str, *, refused: str) -> None:
        """Drop the token under this key if it is the refused one (another process may have renewed it)."""
        kept = self.load(key)
        if self._directory is not None and kept is not None and kept.authorization == refused:
            with suppress(OSError):
                (self._directory / f"{key}.json").unlink()

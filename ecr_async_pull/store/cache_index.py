"""What a cache has learned: facts of blobs, their last use, and what tags resolved to. All blocking.

Losing any of it costs a request or a second look, never a wrong result: trouble is logged, not raised.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..digest import Digest
from ..errors import IntegrityError
from ..model.descriptor import Descriptor
from .atomic import write_atomic
from .cache_layout import CacheLayout

_LOG = logging.getLogger(__name__)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFacts:
    """What is known of a blob beyond its bytes; None where it isn't.

    `tar_size_bytes`: inflated size of a layer.
    """

    media_type: str | None = None
    diff_id: Digest | None = None
    tar_size_bytes: int | None = None


class _Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    media_type: str | None = None
    diff_id: str | None = None
    tar_size_bytes: int | None = None
    written_in_boot: str | None = None
    mtime_ns: int | None = None


class _Tag(msgspec.Struct, frozen=True, kw_only=True):
    reference: str
    media_type: str
    digest: str
    size_bytes: int


class BlobIndex:
    """The `index/` files. Two processes that write one entry at once leave one of the two versions, whole."""

    def __init__(self, layout: CacheLayout) -> None:
        self._layout = layout

    def facts(self, digest: Digest) -> BlobFacts | None:
        entry = self._read(digest)
        if entry is None:
            return None
        try:
            diff_id = None if entry.diff_id is None else Digest.parse(entry.diff_id)
        except IntegrityError:
            diff_id = None
        return BlobFacts(media_type=entry.media_type, diff_id=diff_id, tar_size_bytes=entry.tar_size_bytes)

    def record(self, digest: Digest, facts: BlobFacts, *, is_written_now: bool = False) -> None:
        """Add what `facts` knows to what is known. `is_written_now`: the blob was verified in this boot."""
        known = self._read(digest) or _Entry()
        entry = _Entry(
            media_type=facts.media_type or known.media_type,
            diff_id=known.diff_id if facts.diff_id is None else str(facts.diff_id),
            tar_size_bytes=known.tar_size_bytes if facts.tar_size_bytes is None else facts.tar_size_bytes,
            written_in_boot=boot_id() if is_written_now else known.written_in_boot,
            mtime_ns=self._mtime_ns(digest) if is_written_now else known.mtime_ns,
        )
        if entry == known:
            self.touch(digest)
            return
        self._write(digest, entry)

    def is_settled(self, digest: Digest) -> bool:
        """The blob was verified since this machine started, and nobody wrote to it since: neither a power cut
        nor another program can have damaged it.
        """
        entry = self._read(digest)
        if entry is None or entry.written_in_boot is None or entry.written_in_boot != boot_id():
            return False
        return entry.mtime_ns is not None and entry.mtime_ns == self._mtime_ns(digest)

    def touch(self, digest: Digest) -> None:
        """The blob was used just now."""
        path = self._layout.entry(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._write(digest, _Entry())
        except OSError as error:
            _LOG.debug("can't note the use of %s: %s", digest, error)

    def last_use_s(self, digest: Digest) -> float:
        """Unix time of the last use; without an entry that of the blob's arrival.

        Raises `FileNotFoundError`.
        """
        try:
            return self._layout.entry(digest).stat().st_mtime
        except FileNotFoundError:
            return self._layout.blob(digest).stat().st_mtime

    def forget(self, digest: Digest) -> None:
        self._layout.entry(digest).unlink(missing_ok=True)

    def _mtime_ns(self, digest: Digest) -> int | None:
        """When the blob's bytes were written last, by the file system; links and modes don't change it."""
        try:
            return self._layout.blob(digest).stat().st_mtime_ns
        except OSError:
            return None

    def _write(self, digest: Digest, entry: _Entry) -> None:
        try:
            write_atomic(self._layout.entry(digest), msgspec.json.encode(entry), mode=self._layout.file_mode)
        except OSError as error:
            _LOG.debug("can't note facts of %s: %s", digest, error)

    def _read(self, digest: Digest) -> _Entry | None:
        try:
            return msgspec.json.decode(self._layout.entry(digest).read_bytes(), type=_Entry)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _LOG.debug("can't read facts of %s: %s", digest, error)
            return None


class TagIndex:
    """The `tags/` files: what a full reference resolved to when it was asked for last."""

    def __init__(self, layout: CacheLayout) -> None:
        self._layout = layout

    def remember(self, reference: str, target: Descriptor) -> None:
        tag = _Tag(
            reference=reference,
            media_type=target.media_type,
            digest=str(target.digest),
            size_bytes=target.size_bytes,
        )
        try:
            write_atomic(self._layout.tag(reference), msgspec.json.encode(tag), mode=self._layout.file_mode)
        except OSError as error:
            _LOG.debug("can't note what %s resolved to: %s", reference, error)

    def recall(self, reference: str) -> Descriptor | None:
        path = self._layout.tag(reference)
        target = self.target(path)
        return None if target is None or target[0] != reference else target[1]

    def target(self, path: Path) -> tuple[str, Descriptor] | None:
        """The reference and target that a tag file holds; None for a damaged one."""
        try:
            tag = msgspec.json.decode(path.read_bytes(), type=_Tag)
            digest = Digest.parse(tag.digest)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, IntegrityError) as error:
            _LOG.debug("can't read %s: %s", path, error)
            return None
        return tag.reference, Descriptor(media_type=tag.media_type, digest=digest, size_bytes=tag.size_bytes)


def boot_id() -> str | None:
    """Names the time since this machine started; None where the system doesn't say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None

"""Where everything lies in a cache directory, and with which permissions.

    blobs/<algorithm>/<hex>            finished blobs; other tools read DIR/blobs as a shared blob directory
    index/<algorithm>/<hex>.json       what we learned of a blob; its mtime is the blob's last use
    ingest/<algorithm>-<hex>           blobs on their way in; `.journal` and, while fetched, `.lock` beside
    tags/<hex>.json                    what a reference resolved to last
    in-use.lock                        one byte a blob, locked by those who read it

One small file a blob rather than a database: any number of processes and users can write it by rename, a
damaged one costs one fact, and a copy of the directory made while it is in use is still a cache.

Sharing between users of one group: a cache directory that the group may write (mode 2775: `install -d -m 2775
-g GROUP DIR`) passes its mode on, so that directories are group-writable, and files 0664, whatever the umask;
set-group-ID makes the kernel hand on the group. Any other directory follows the umask.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..digest import Digest
from ..errors import IntegrityError, StorageError, storage_errors

_SHARED_FILE_MODE = 0o664
_PARTIAL = re.compile(r"(sha256|sha512)-([0-9a-f]+)(?:\.journal|\.lock)?")
_ALGORITHMS = ("sha256", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """`file_mode`: exact permissions of files, None to follow the umask."""

    root: Path
    file_mode: int | None

    @classmethod
    def prepare(cls, root: Path) -> CacheLayout:
        """Make what is missing.

        Blocking; raises `StorageError` where the directory can't be made or written.
        """
        with storage_errors("use the cache directory", root):
            root.mkdir(parents=True, exist_ok=True)
            root_mode = stat.S_IMODE(root.stat().st_mode)
            is_shared = bool(root_mode & stat.S_IWGRP)
            layout = cls(root=root, file_mode=_SHARED_FILE_MODE if is_shared else None)
            for path in layout._directories():
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                if is_shared:
                    path.chmod(root_mode & 0o2777)
        for path in (root, *layout._directories()):
            if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
                raise StorageError(
                    f"can't write to {path} in the cache directory: give this user write permission there"
                    " (for several users: install -d -m 2775 -g GROUP DIR), or choose another cache directory"
                )
        return layout

    @property
    def in_use(self) -> Path:
        return self.root / "in-use.lock"

    @property
    def ingest_directory(self) -> Path:
        return self.root / "ingest"

    @property
    def tags_directory(self) -> Path:
        return self.root / "tags"

    def blob(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.algorithm / digest.hex

    def entry(self, digest: Digest) -> Path:
        return self.root / "index" / digest.algorithm / f"{digest.hex}.json"

    def partial(self, digest: Digest) -> Path:
        return self.ingest_directory / f"{digest.algorithm}-{digest.hex}"

    def ingest_lock(self, digest: Digest) -> Path:
        return self.ingest_directory / f"{digest.algorithm}-{digest.hex}.lock"

    def tag(self, reference: str) -> Path:
        return self.tags_directory / f"{Digest.of(reference.encode()).hex}.json"

    def blobs(self) -> Iterator[Digest]:
        """Every finished blob, in no order."""
        return self._listed("blobs", "")

    def entries(self) -> Iterator[Digest]:
        """Every blob that the index knows, here or not."""
        return self._listed("index", ".json")

    def partials(self) -> set[Digest]:
        """Every blob of which something lies in `ingest/`."""
        found = set()
        for path in self.ingest_directory.iterdir():
            match = _PARTIAL.fullmatch(path.name)
            if match and (digest := _digest(match[1], match[2])):
                found.add(digest)
        return found

    def written_directories(self) -> tuple[Path, ...]:
        """Where a crash can leave a temporary file."""
        return (
            self.ingest_directory,
            self.tags_directory,
            *(self.root / "index" / algorithm for algorithm in _ALGORITHMS),
        )

    def _directories(self) -> tuple[Path, ...]:
        parents = tuple(self.root / name for name in ("blobs", "index", "ingest", "tags"))
        return parents + tuple(
            self.root / name / algorithm for name in ("blobs", "index") for algorithm in _ALGORITHMS
        )

    def _listed(self, name: str, suffix: str) -> Iterator[Digest]:
        for algorithm in _ALGORITHMS:
            for path in (self.root / name / algorithm).iterdir():
                if path.name.endswith(suffix) and (
                    digest := _digest(algorithm, path.name.removesuffix(suffix))
                ):
                    yield digest


def _digest(algorithm: str, value: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{value}")
    except IntegrityError:
        return None

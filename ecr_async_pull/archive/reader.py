"""Random-access reading of an archive or an OCI directory on disk: by member name, nothing extracted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

from ..errors import IntegrityError, StorageError, UsageError
from ..settings import KIB
from ..transfer.inflate import MAGIC_BYTES, Compression, detect
from .report import Findings
from .tar_table import Entry, EntryKind, NotATarError, read_table

_PIECE_BYTES = 256 * KIB
_MAX_LINKS = 8
_UNPACK_WITH = {
    Compression.GZIP: "gunzip",
    Compression.ZSTD: "zstd -d",
    Compression.BZIP2: "bunzip2",
    Compression.XZ: "unxz",
}


class ArchiveReader(Protocol):
    """`entries` by normal name; `replaced` are members that a later one of the same name replaces."""

    is_directory: bool
    entries: Mapping[str, Entry]
    replaced: tuple[Entry, ...]

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """A plain file in bounded pieces; from any thread. Raises `StorageError`, `IntegrityError`."""

    def __enter__(self) -> ArchiveReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_archive(path: Path, findings: Findings) -> ArchiveReader:
    """Open a tar or an OCI directory; what is wrong with the container itself goes to `findings`.

    Raises `UsageError` for what is neither, `StorageError` where it can't be read.
    """
    try:
        if path.is_dir():
            return _DirectoryReader(path, findings)
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file; save the archive to a file and verify that")
        return _TarReader(path, findings)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; give the path of an archive or an OCI directory") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def resolve(reader: ArchiveReader, name: str) -> Entry | None:
    """The plain file that this name stands for, links followed inside the archive; None if there is none."""
    for _ in range(_MAX_LINKS):
        entry = reader.entries.get(name)
        if entry is None or entry.kind is EntryKind.FILE:
            return entry
        if entry.kind not in {EntryKind.SYMLINK, EntryKind.HARDLINK}:
            return None
        name = entry.target
    return None


def read_whole(reader: ArchiveReader, entry: Entry, *, limit_bytes: int) -> bytes:
    """A small file's bytes; raises `IntegrityError` above the limit."""
    if entry.size_bytes > limit_bytes:
        raise IntegrityError(f"it has {entry.size_bytes} bytes where at most {limit_bytes} make sense")
    return b"".join(reader.pieces(entry))


class _TarReader:
    is_directory = False

    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        self._file = path.open("rb", buffering=64 * KIB)
        try:
            self._refuse_compressed()
            table = read_table(self._file, findings)
        except NotATarError as error:
            self._file.close()
            raise UsageError(
                f"{path} is not a tar archive ({error}); give an archive of an image or an OCI directory"
            ) from error
        except BaseException:
            self._file.close()
            raise
        self.entries: Mapping[str, Entry] = table.entries
        self.replaced = table.replaced

    def _refuse_compressed(self) -> None:
        compression = detect(self._file.read(MAGIC_BYTES))
        self._file.seek(0)
        if compression is not Compression.NONE:
            command = _UNPACK_WITH[compression]
            raise UsageError(
                f"{self._path} is compressed as a whole ({compression.value}), which many loaders refuse;"
                f" unpack it first: {command} < {self._path} > image.tar"
            )

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        yield from _read_range(self._file.fileno(), entry)

    def __enter__(self) -> _TarReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._file.close()


class _DirectoryReader:
    """An image layout (image-spec image-layout.md): `oci-layout`, `index.json` and `blobs/ALGORITHM/HEX`."""

    is_directory = True
    replaced: tuple[Entry, ...] = ()

    def __init__(self, path: Path, findings: Findings) -> None:
        self._path = path
        names = [name for name in ("oci-layout", "index.json") if (path / name).is_file()]
        if "index.json" not in names:
            raise UsageError(f"{path} has no index.json, so it is no OCI directory; give one or an archive")
        for folder in sorted((path / "blobs").glob("*")):
            if folder.is_dir():
                names += [f"blobs/{folder.name}/{name}" for name in sorted(os.listdir(folder))]
        entries = {}
        for name in names:
            status = (path / name).stat()
            if not stat.S_ISREG(status.st_mode):
                findings.add(name, "it is no plain file")
                continue
            entries[name] = Entry(name=name, kind=EntryKind.FILE, size_bytes=status.st_size)
        self.entries: Mapping[str, Entry] = entries

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        try:
            with (self._path / entry.name).open("rb", buffering=0) as file:
                yield from _read_range(file.fileno(), entry)
        except OSError as error:
            raise StorageError(f"cannot read {self._path / entry.name}: {error.strerror or error}") from error

    def __enter__(self) -> _DirectoryReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass


def _read_range(descriptor: int, entry: Entry) -> Iterator[bytes]:
    offset, end = entry.data_offset, entry.data_offset + entry.size_bytes
    while offset < end:
        try:
            piece = os.pread(descriptor, min(_PIECE_BYTES, end - offset), offset)
        except OSError as error:
            raise StorageError(f"cannot read {entry.name}: {error.strerror or error}") from error
        if not piece:
            raise IntegrityError(
                f"it is cut off after {offset - entry.data_offset} of {entry.size_bytes} bytes"
            )
        offset += len(piece)
        yield piece

"""The member table of a tar on disk. Nothing is extracted: members are read at their offsets."""

from __future__ import annotations

import enum
import os
import posixpath
import tarfile
from dataclasses import dataclass
from typing import BinaryIO, cast

from ..settings import MIB
from .report import Findings

_BLOCK_BYTES = 512
_HEADER_LIMIT_BYTES = 4 * MIB


class EntryKind(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    OTHER = "special file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member, by its normal name (no `./`, no trailing slash). `target`: a link's, from the root.

    `is_cut`: the archive ends before the member does.
    """

    name: str
    kind: EntryKind
    size_bytes: int = 0
    data_offset: int = 0
    target: str = ""
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TarTable:
    """`entries`: the last member of each name, the one that counts; `replaced`: earlier ones."""

    entries: dict[str, Entry]
    replaced: tuple[Entry, ...]


class NotATarError(Exception):
    """The file doesn't begin with a tar header."""


def read_table(file: BinaryIO, findings: Findings) -> TarTable:
    """Read all headers. What is wrong with the tar itself goes to `findings`; raises `NotATarError`."""
    size_bytes = os.fstat(file.fileno()).st_size
    entries: dict[str, Entry] = {}
    replaced: list[Entry] = []
    headers = cast("BinaryIO", _Headers(file))
    try:
        tar = tarfile.TarFile(fileobj=headers, mode="r", encoding="utf-8", errors="surrogateescape")
    except (tarfile.TarError, ValueError, RecursionError, OverflowError) as error:
        raise NotATarError(str(error)) from error
    problem = ""
    try:
        while (info := tar.next()) is not None:
            entry = _entry_of(info, size_bytes, findings)
            before = entries.get(entry.name)
            if before is not None and EntryKind.DIRECTORY not in (before.kind, entry.kind):
                replaced.append(before)
            entries[entry.name] = entry
            tar.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, ValueError, RecursionError, OverflowError) as error:
        problem = str(error)
    if not entries and problem:
        raise NotATarError(problem)
    _check_end(file, tar.offset, size_bytes, problem, findings)
    return TarTable(entries=entries, replaced=tuple(replaced))


def _entry_of(info: tarfile.TarInfo, size_bytes: int, findings: Findings) -> Entry:
    name = posixpath.normpath(info.name) if info.name else "."
    if name.startswith(("/", "../")) or name == "..":
        findings.add(info.name, "its name leads out of the archive")
    if info.issym() or info.islnk():
        base = posixpath.dirname(name) if info.issym() else ""
        target = posixpath.normpath(posixpath.join(base, info.linkname))
        if target.startswith(("/", "../")) or target == "..":
            findings.add(name, f"it is a link that leads out of the archive, to {info.linkname}")
        return Entry(name=name, kind=EntryKind.SYMLINK if info.issym() else EntryKind.HARDLINK, target=target)
    if info.isdir():
        return Entry(name=name, kind=EntryKind.DIRECTORY)
    if not info.isreg() or info.issparse():
        findings.add(name, "it is neither a plain file nor a directory nor a link; loaders can't read it")
        return Entry(name=name, kind=EntryKind.OTHER)
    is_cut = info.offset_data + info.size > size_bytes
    if is_cut:
        here_bytes = max(0, size_bytes - info.offset_data)
        findings.add(
            name, f"the archive is truncated: {here_bytes} of the member's {info.size} bytes are here"
        )
    return Entry(
        name=name,
        kind=EntryKind.FILE,
        size_bytes=info.size,
        data_offset=info.offset_data,
        is_cut=is_cut,
    )


def _check_end(file: BinaryIO, offset: int, size_bytes: int, problem: str, findings: Findings) -> None:
    """At `offset` the reading of headers stopped: there should be two zero blocks, then nothing but zeros."""
    if offset > size_bytes:
        findings.add("", f"the archive is truncated: it ends at byte {size_bytes}, within a member")
        return
    if offset == size_bytes:
        findings.note("", "the archive has no end blocks; loaders accept that")
        return
    file.seek(offset)
    tail = file.read(2 * _BLOCK_BYTES)
    if tail[:_BLOCK_BYTES].strip(b"\0"):
        reason = f" ({problem})" if problem else ""
        findings.add("", f"the archive is damaged: no member's header at byte {offset}{reason}")
        return
    if problem:
        findings.add("", f"the archive is damaged at byte {offset} ({problem})")
        return
    if len(tail) < 2 * _BLOCK_BYTES:
        findings.note("", "the archive has one end block in place of two; loaders accept that")
    elif tail.strip(b"\0"):
        findings.add("", f"the archive is damaged: a block of zeros at byte {offset}, then more data")
        return
    while piece := file.read(MIB):
        if piece.strip(b"\0"):
            findings.note(
                "", f"{size_bytes - offset} bytes follow the archive's end, not all zero; loaders skip them"
            )
            return


class _Headers:
    """The archive as `tarfile` sees it: no header may make it read megabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

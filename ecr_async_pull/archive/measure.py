"""One pass over each file of an archive: the digest of its bytes as stored and, for layers, inflated."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..digest import Digest, Hasher
from ..errors import IntegrityError
from ..transfer.inflate import MAGIC_BYTES, Compression, Inflater, detect
from .reader import ArchiveReader
from .tar_table import Entry

_MAX_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`tar` and `tar_bytes` are of the inflated bytes, None and 0 where nothing was inflated.

    `damage` says why the file can't be read or inflated to its end; `stored` is None if it can't be read.
    """

    stored: Digest | None
    tar: Digest | None = None
    tar_bytes: int = 0
    damage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`algorithm` of the stored digest; `inflates`: the file is a layer, its tar digest counts too."""

    entry: Entry
    algorithm: str = "sha256"
    inflates: bool = False


def measure_all(reader: ArchiveReader, wanted: Mapping[str, Wanted]) -> dict[str, Measured]:
    """Measure every file once, several at a time (hashing and inflating release the interpreter lock)."""
    stop = threading.Event()
    threads = max(1, min(_MAX_THREADS, len(os.sched_getaffinity(0)), len(wanted)))
    largest_first = sorted(wanted, key=lambda name: -wanted[name].entry.size_bytes)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as executor:
        try:
            futures = {name: executor.submit(_measure, reader, wanted[name], stop) for name in largest_first}
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            stop.set()
            executor.shutdown(cancel_futures=True)
            raise


def _measure(reader: ArchiveReader, wanted: Wanted, stop: threading.Event) -> Measured:
    entry = wanted.entry
    if entry.is_cut:
        return Measured(stored=None, damage="it is cut off by the archive's end")
    stored = Hasher(wanted.algorithm)
    tar = _TarHash(stored if wanted.algorithm == "sha256" else None) if wanted.inflates else None
    try:
        for piece in reader.pieces(entry):
            if stop.is_set():
                break
            stored.update(piece)
            if tar is not None:
                tar.feed(piece)
    except IntegrityError as error:
        return Measured(stored=None, damage=str(error))
    if tar is None:
        return Measured(stored=stored.digest())
    tar.finish()
    return Measured(
        stored=stored.digest(),
        tar=tar.digest() if not tar.damage else None,
        tar_bytes=tar.size_bytes,
        damage=tar.damage,
    )


class _TarHash:
    """The digest of what a layer inflates to. A layer that isn't compressed is not hashed twice."""

    def __init__(self, stored: Hasher | None) -> None:
        self._stored = stored
        self._hasher = Hasher()
        self._inflater: Inflater | None = None
        self._is_plain = False
        self._first = b""
        self.size_bytes = 0
        self.damage = ""

    def feed(self, piece: bytes) -> None:
        if self._inflater is None:
            self._first += piece
            if len(self._first) < MAGIC_BYTES:
                return
            piece = self._begin()
        self._take(piece)

    def _begin(self) -> bytes:
        self._inflater = Inflater(detect(self._first))
        self._is_plain = self._inflater.compression is Compression.NONE and self._stored is not None
        first, self._first = self._first, b""
        return first

    def _take(self, piece: bytes) -> None:
        if self._is_plain:
            self.size_bytes += len(piece)
            return
        if self.damage:
            return
        assert self._inflater is not None
        try:
            for part in self._inflater.feed(piece):
                self.size_bytes += len(part)
                self._hasher.update(part)
        except IntegrityError as error:
            self.damage = str(error)

    def finish(self) -> None:
        if self._inflater is None:
            self._take(self._begin())
        assert self._inflater is not None
        if not self.damage:
            try:
                self._inflater.finish()
            except IntegrityError as error:
                self.damage = str(error)

    def digest(self) -> Digest:
        if self._is_plain and self._stored is not None:
            return self._stored.digest()
        return self._hasher.digest()

"""Content digests: the only module that uses hashlib.

Source: image-spec, descriptor.md, "Digests". A digest is of bytes *as stored*.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from .errors import IntegrityError

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm:hex`, valid by construction for the algorithms that we can verify (sha256, sha512)."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `sha256:<64 lower-case hex>`; raises `IntegrityError` for anything we could not verify."""
        algorithm, _, value = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if length is not None and re.fullmatch(rf"[0-9a-f]{{{length}}}", value):
            return cls(algorithm, value)
        if length is None and _GRAMMAR.fullmatch(text):
            raise IntegrityError(
                f"digest {text!r} uses an algorithm that can't be verified here; ask for a sha256 digest"
            )
        raise IntegrityError(f"{text!r} is not a digest; expected sha256:<64 lower-case hex digits>")

    @staticmethod
    def is_grammatical(text: str) -> bool:
        """Whether the text fits the grammar of digests, whether or not its algorithm is known here."""
        return _GRAMMAR.fullmatch(text) is not None

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve hex digits, as engines show them."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Hasher:
    """An incremental digest. `update` releases the interpreter lock for pieces of 2 KiB and more."""

    __slots__ = ("_algorithm", "_state", "update")

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._state = hashlib.new(algorithm)
        self.update = self._state.update

    def digest(self) -> Digest:
        return Digest(self._algorithm, self._state.hexdigest())


def check_bytes(data: bytes, *, digest: Digest, size_bytes: int | None, what: str) -> None:
    """Raise `IntegrityError` unless `data` has this size and this digest (size first, then digest)."""
    if size_bytes is not None and len(data) != size_bytes:
        raise IntegrityError(f"{what}: {len(data)} bytes arrived where {size_bytes} were promised")
    actual = Digest.of(data, digest.algorithm)
    if actual != digest:
        raise IntegrityError(f"{what}: its bytes have digest {actual}, not {digest}")

"""What verifying an archive found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`where`: a member or file of the archive ("" for the archive as a whole); `what`: one line."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """One image of the archive. `stored_bytes` is its layers as they lie there, `tar_bytes` inflated.

    `image_id` is the config's digest, "" where there is no config that can be read.
    """

    names: tuple[str, ...]
    image_id: str
    platform: str
    layers: int
    stored_bytes: int
    tar_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """`kind`: `docker-archive`, `docker-legacy`, `oci-archive` or `oci` (a directory).

    `findings` are what is wrong; `notes` are what is odd or missing but right.
    """

    kind: str
    images: tuple[ImageSummary, ...]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        return not self.findings


class Findings:
    """Collects findings and notes in order, each once."""

    def __init__(self) -> None:
        self._wrong: dict[Finding, None] = {}
        self._odd: dict[Finding, None] = {}

    def add(self, where: str, what: str) -> None:
        self._wrong[Finding(where=_clean(where), what=_clean(what))] = None

    def note(self, where: str, what: str) -> None:
        self._odd[Finding(where=_clean(where), what=_clean(what))] = None

    @property
    def wrong(self) -> tuple[Finding, ...]:
        return tuple(self._wrong)

    @property
    def odd(self) -> tuple[Finding, ...]:
        return tuple(self._odd)


def _clean(text: str) -> str:
    """Names in an archive are anybody's: no control characters, no bytes that can't be printed."""
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return printable if len(printable) <= 500 else printable[:500] + "…"

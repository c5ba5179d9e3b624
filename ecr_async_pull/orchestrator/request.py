"""What is asked for, and what came of it: values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from ..errors import PullError, UsageError
from ..model.platform import Platform
from ..model.reference import ImageReference


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One image. `platform` None: this machine's. `names` None: the reference's own; empty: none."""

    reference: ImageReference
    platform: Platform | None = None
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRequest:
    """One output, an archive or an OCI directory at `path`, of one image or several."""

    images: tuple[ImageRequest, ...]
    path: Path

    def __post_init__(self) -> None:
        if not self.images:
            raise UsageError(f"nothing to put into {self.path}; name an image")

    @property
    def label(self) -> str:
        """The reference, and how many more there are."""
        more = len(self.images) - 1
        return str(self.images[0].reference) + (f" and {more} more" if more else "")


class Outcome(enum.Enum):
    PULLED = "pulled"
    UP_TO_DATE = "up to date"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What an image turned out to be: digests as text, the image ID is the config's."""

    reference: str
    manifest_digest: str
    image_id: str
    platform: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputResult:
    """What came of one output. Bytes are of stored blobs: over the network, and out of what was here."""

    request: OutputRequest
    outcome: Outcome
    fetched_bytes: int = 0
    reused_bytes: int = 0
    seconds: float = 0.0
    images: tuple[ImageFacts, ...] = ()
    error: PullError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullReport:
    """The results in the order asked for. `kept`: where a broken run's bytes wait for the same command."""

    results: tuple[OutputResult, ...]
    kept: tuple[Path, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or the worst failure's."""
        return max((one.error.exit_code for one in self.results if one.error is not None), default=0)

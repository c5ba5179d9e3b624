"""One output on its way through a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PullError, UsageError
from ..model.image import ResolvedImage
from .request import ImageFacts, Outcome, OutputRequest, OutputResult

if TYPE_CHECKING:
    from .archive_output import ArchivePlan
    from .blob_use import BlobUse
    from .oci_output import DirectoryPlan


@dataclass(slots=True, kw_only=True)
class Output:
    """One output on its way. `ended` is set when nothing more is done for it, however that went."""

    request: OutputRequest
    final: Path
    began_at: float
    images: tuple[ResolvedImage, ...] = ()
    fingerprint: str = ""
    plan: ArchivePlan | DirectoryPlan | None = None
    uses: list[BlobUse] = field(default_factory=list)
    outcome: Outcome | None = None
    error: PullError | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: PullError) -> None:
        self.outcome, self.error = Outcome.FAILED, error

    def result(self) -> OutputResult:
        assert self.outcome is not None
        needed = sum(use.wish.descriptor.size_bytes for use in self.uses)
        fetched = sum(use.fetched_bytes for use in self.uses)
        return OutputResult(
            request=self.request,
            outcome=self.outcome,
            fetched_bytes=fetched,
            reused_bytes=max(0, needed - fetched),
            seconds=time.monotonic() - self.began_at,
            images=tuple(map(_facts, self.images)),
            error=self.error,
        )


def fail_the_others(outputs: Sequence[Output]) -> None:
    """With --fail-fast: where one has failed, none that isn't finished shall be."""
    failed = [output for output in outputs if output.error is not None]
    for output in outputs:
        if failed and output.outcome is None:
            output.fail(UsageError(f"not pulled: {failed[0].request.label} failed (--fail-fast)"))


def _facts(image: ResolvedImage) -> ImageFacts:
    config = image.image.config
    return ImageFacts(
        reference=str(image.reference),
        manifest_digest=str(image.target.digest),
        image_id=str(image.image.manifest.config.digest),
        platform="" if config is None else str(config.platform),
        names=image.names,
    )

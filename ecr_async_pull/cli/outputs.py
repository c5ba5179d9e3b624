"""Which file each image goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..orchestrator.request import ImageRequest, OutputRequest
from ..settings import ArchiveFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """An image as it was asked for; `output` names its own file, relative to the output directory."""

    image: ImageRequest
    output: str | None = None


def plan_outputs(
    listed: Sequence[ListedImage], output: str | None, archive_format: ArchiveFormat
) -> tuple[OutputRequest, ...]:
    """One output an image, or one of all of them where `output` names a file for several.

    A directory, or a name that ends in `/`, takes one archive an image under its default name. An OCI
    directory takes all images. Raises `UsageError`.
    """
    if output == "-":
        raise UsageError("an archive is written to a file, not to standard output; name one with -o")
    if archive_format is ArchiveFormat.OCI_DIRECTORY and output is not None:
        if any(one.output is not None for one in listed):
            raise UsageError("the directory after -o takes all images; leave out -o, or the list's output=")
        return tuple(OutputRequest(images=(one.image,), path=Path(output)) for one in listed)
    if output is None or output.endswith("/") or Path(output).is_dir():
        directory = Path(output or ".")
        suffix = "" if archive_format is ArchiveFormat.OCI_DIRECTORY else ".tar"
        return tuple(
            OutputRequest(
                images=(one.image,),
                path=directory / (one.output or one.image.reference.default_stem + suffix),
            )
            for one in listed
        )
    if any(one.output is not None for one in listed):
        raise UsageError("a list that names outputs needs a directory after -o, or no -o")
    return (OutputRequest(images=tuple(one.image for one in listed), path=Path(output)),)

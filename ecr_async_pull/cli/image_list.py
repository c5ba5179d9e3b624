"""Which images a command line names: references, and lists of them (`-f`).

A list holds one image a line: its reference, then any of `output=NAME`, `platform=OS/ARCH[/VARIANT]` and
`name=REPO:TAG` (repeatable), parted by blanks. `#` at the beginning of a word starts a comment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.platform import Platform
    from .outputs import ListedImage

_OPTIONS = ("output", "platform", "name")
_STANDARD_INPUT = "-"
_LIMIT_BYTES = 16 * 1024 * 1024


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """References and lists."""
    parser.add_argument(
        "references",
        metavar="REF",
        nargs="*",
        help="<account>.dkr.ecr.<region>.amazonaws.com/<repository>[:<tag>][@sha256:<hex>]",
    )
    parser.add_argument(
        "-f",
        "--file",
        metavar="LIST",
        dest="lists",
        action="append",
        help="images, one a line: REF [output=NAME] [platform=OS/ARCH] [name=REPO:TAG]...; # comments;"
        " - is standard input; repeatable",
    )


def listed_images(
    arguments: argparse.Namespace, *, names: tuple[str, ...] | None = None
) -> tuple[ListedImage, ...]:
    """Every image that the command line and its lists name, each once, in their order.

    `names` are those of images that don't name their own. Raises `UsageError`, with file and line for what
    is wrong in a list.
    """
    from ..errors import UsageError
    from ..model.platform import Platform
    from ..model.reference import ImageReference
    from ..orchestrator.request import ImageRequest
    from .outputs import ListedImage

    platform = Platform.parse(arguments.platform) if arguments.platform else None
    listed = [
        ListedImage(image=ImageRequest(reference=ImageReference.parse(text), platform=platform, names=names))
        for text in arguments.references
    ]
    for path in arguments.lists or ():
        listed += read_list(path, platform=platform, names=names)
    if not listed:
        raise UsageError("no image is named: give references, or a list of them with -f")
    return tuple(dict.fromkeys(listed))


def read_list(
    path: str, *, platform: Platform | None = None, names: tuple[str, ...] | None = None
) -> Sequence[ListedImage]:
    """The images of one list, `-` for standard input; raises `UsageError` that names file and line."""
    from ..errors import UsageError

    shown = "standard input" if path == _STANDARD_INPUT else path
    images = []
    for number, line in enumerate(_lines(path, shown), 1):
        try:
            image = parse_line(line, platform=platform, names=names)
        except UsageError as error:
            raise UsageError(f"{shown}, line {number}: {error}") from error
        if image is not None:
            images.append(image)
    return images


def parse_line(
    line: str, *, platform: Platform | None = None, names: tuple[str, ...] | None = None
) -> ListedImage | None:
    """The image of one line, None for one without; `platform` and `names` where it gives none.

    Raises `UsageError`.
    """
    from ..errors import UsageError
    from ..model.platform import Platform
    from ..model.reference import ImageReference
    from ..orchestrator.request import ImageRequest
    from .names import names_of
    from .outputs import ListedImage

    words = list(_words(line))
    if not words:
        return None
    reference = ImageReference.parse(words[0])
    given: dict[str, list[str]] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in _OPTIONS or not equals or not value:
            raise UsageError(
                f"{word!r} is no option; after the reference write output=NAME, platform=OS/ARCH or"
                " name=REPO:TAG"
            )
        if key in given and key != "name":
            raise UsageError(f"{key}= is given twice; leave one out")
        given.setdefault(key, []).append(value)
    if "platform" in given:
        platform = Platform.parse(given["platform"][0])
    if "name" in given:
        names = names_of(given["name"], is_nameless=False)
    return ListedImage(
        image=ImageRequest(reference=reference, platform=platform, names=names),
        output=given["output"][0] if "output" in given else None,
    )


def _words(line: str) -> Iterator[str]:
    for word in line.split():
        if word.startswith("#"):
            return
        yield word


def _lines(path: str, shown: str) -> list[str]:
    from ..errors import UsageError, storage_errors

    with storage_errors("read the list", Path(path)):
        if path == _STANDARD_INPUT:
            raw = sys.stdin.buffer.read(_LIMIT_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(_LIMIT_BYTES + 1)
    if len(raw) > _LIMIT_BYTES:
        raise UsageError(f"{shown} is longer than {_LIMIT_BYTES} bytes; a list holds one image a line")
    try:
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown} is no text in UTF-8; a list holds one image a line") from error

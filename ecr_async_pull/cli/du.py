"""`ecr-async-pull du REF...`: what images take, share, and would cost to pull."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .image_list import add_image_options

if TYPE_CHECKING:
    from ..orchestrator.estimate import Estimate, ImageEstimate

_HELP = "show the layers of images, what they share, what the cache has and what a pull would fetch"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `du` command."""
    parser = subparsers.add_parser(
        "du", help=_HELP, description=f"{_HELP.capitalize()}. From manifests alone: no layer is fetched."
    )
    add_image_options(parser)
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="default: linux on this machine's CPU"
    )
    parser.add_argument("--all-platforms", action="store_true", help="whole indexes")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="the cache that a pull would use")
    parser.add_argument("--plain-http", action="store_true", help="speak HTTP to the registry")
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object; sizes in bytes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Estimate and print; returns the exit code, the worst where images fail."""
    from . import environment

    with environment.default_bundle_unread():
        from ..orchestrator.estimate import estimate
    from ..settings import ArchiveFormat, PullSettings
    from .image_list import listed_images
    from .running import run_command

    settings = PullSettings(
        archive_format=ArchiveFormat.OCI_ARCHIVE,
        is_all_platforms=arguments.all_platforms,
        cache_dir=environment.cache_dir(os.environ, arguments.cache_dir),
        connection=environment.connection_settings(os.environ, plain_http=arguments.plain_http),
    )
    requests = [one.image for one in listed_images(arguments)]
    return show(run_command(estimate(requests, settings, os.environ)), as_json=arguments.as_json)


def show(found: Estimate, *, as_json: bool) -> int:
    """Print an estimate, failures on standard error; returns the exit code."""
    from ..progress.text import one_line

    for image in found.images:
        if image.error is not None:
            sys.stderr.write(f"ecr-async-pull: {one_line(str(image.request.reference))}: {image.error}\n")
    sys.stdout.write(_as_json(found) if as_json else _as_text(found))
    return found.exit_code


def _as_text(found: Estimate) -> str:
    from ..progress.text import size_text

    lines = []
    for image in found.images:
        if image.error is None:
            lines += _image_lines(image)
    count = len(found.images)
    lines.append(
        f"total: {size_text(found.size_bytes)} in {count} image{'' if count == 1 else 's'},"
        f" {size_text(found.distinct_bytes)} distinct, {size_text(found.here_bytes)} here already,"
        f" {size_text(found.fetch_bytes)} to fetch"
    )
    return "".join(f"{line}\n" for line in lines)


def _image_lines(image: ImageEstimate) -> list[str]:
    from ..progress.text import one_line, size_text

    state = "up to date" if image.is_up_to_date else f"{size_text(image.fetch_bytes)} to fetch"
    lines = [
        f"{one_line(str(image.request.reference))} ({one_line(image.platform)})",
        f"  {image.manifest_digest}",
    ]
    for layer in image.layers:
        notes = []
        if layer.images > 1:
            notes.append(f"in {layer.images} images")
        if layer.is_here:
            notes.append("here")
        elif layer.is_fetched:
            notes.append("fetch")
        lines.append(f"  {layer.digest.short}  {size_text(layer.size_bytes):>8}  {', '.join(notes)}".rstrip())
    count = len(image.layers)
    lines.append(
        f"  {count} layer{'' if count == 1 else 's'}, {size_text(image.size_bytes)},"
        f" {size_text(image.shared_bytes)} shared, {size_text(image.here_bytes)} here, {state}"
    )
    return lines


def _as_json(found: Estimate) -> str:
    import json

    document = {
        "images": [
            {
                "reference": str(image.request.reference),
                "manifest_digest": image.manifest_digest or None,
                "platform": image.platform or None,
                "size_bytes": image.size_bytes,
                "shared_bytes": image.shared_bytes,
                "here_bytes": image.here_bytes,
                "fetch_bytes": image.fetch_bytes,
                "is_up_to_date": image.is_up_to_date,
                "layers": [
                    {
                        "digest": str(layer.digest),
                        "media_type": layer.media_type,
                        "size_bytes": layer.size_bytes,
                        "images": layer.images,
                        "is_here": layer.is_here,
                        "is_fetched": layer.is_fetched,
                    }
                    for layer in image.layers
                ],
                "error": None
                if image.error is None
                else {"message": str(image.error), "exit_code": image.error.exit_code},
            }
            for image in found.images
        ],
        "size_bytes": found.size_bytes,
        "distinct_bytes": found.distinct_bytes,
        "here_bytes": found.here_bytes,
        "fetch_bytes": found.fetch_bytes,
    }
    return json.dumps(document) + "\n"

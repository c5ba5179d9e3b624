"""`ecr-async-pull verify PATH...`: check archives from disk alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IntegrityError

if TYPE_CHECKING:
    from ..archive.report import ImageSummary, VerifyReport

_HELP = "check an archive or OCI directory: every digest, diff_id and cross reference"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `verify` command."""
    parser = subparsers.add_parser(
        "verify",
        help=_HELP,
        description=f"{_HELP[0].upper()}{_HELP[1:]}. From disk alone; also archives that docker save,"
        " skopeo, crane or podman wrote. Ends with 0 where all is right, 5 where something is wrong.",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="an archive (tar) or a directory with an OCI layout",
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object per PATH")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify each path; returns the exit code. Raises `PullError` for a path that is no archive."""
    from ..archive.verify import verify

    is_right = True
    for path in arguments.paths:
        report = verify(path)
        is_right = is_right and report.is_right
        sys.stdout.write(_as_json(path, report) if arguments.as_json else _as_text(path, report))
        sys.stdout.flush()
        for finding in report.findings:
            sys.stderr.write(f"{path}: {finding}\n")
    return 0 if is_right else IntegrityError.exit_code


def _as_text(path: Path, report: VerifyReport) -> str:
    count = len(report.findings)
    verdict = "right" if report.is_right else f"WRONG, {count} finding{'s' if count > 1 else ''}"
    lines = [f"{path}: {report.kind}: {verdict}"]
    for image in report.images:
        lines += _image_lines(image)
    lines += [f"  note: {note}" for note in report.notes]
    return "".join(f"{line}\n" for line in lines)


def _image_lines(image: ImageSummary) -> list[str]:
    from ..progress.text import one_line, size_text

    names = ", ".join(one_line(name) for name in image.names) or "(no name)"
    layers = f"{image.layers} layer{'' if image.layers == 1 else 's'}"
    sizes = f"{size_text(image.stored_bytes)} stored, {size_text(image.tar_bytes)} inflated"
    platform = f", {one_line(image.platform)}" if image.platform else ""
    return [f"  {names}", f"    {image.image_id or '(no config)'}{platform}, {layers}, {sizes}"]


def _as_json(path: Path, report: VerifyReport) -> str:
    import json
    from dataclasses import asdict

    document = {"path": str(path), "is_right": report.is_right, **asdict(report)}
    return json.dumps(document) + "\n"

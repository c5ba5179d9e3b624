"""What a pull came to, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..orchestrator.request import Outcome, OutputResult, PullReport
from ..progress.text import duration_text, one_line, size_text


def as_text(report: PullReport) -> str:
    """A line for each image of a single output, a table for several; failures are told elsewhere."""
    if len(report.results) == 1:
        return _single(report.results[0])
    return _table(report.results) if report.results else ""


def _single(result: OutputResult) -> str:
    if result.outcome is Outcome.FAILED:
        return ""
    path = result.request.path
    if result.outcome is Outcome.UP_TO_DATE:
        return f"{path}: up to date\n"
    lines = [
        f"{one_line(image.reference)} ({image.platform})\n  image ID {image.image_id}\n"
        f"  digest   {image.manifest_digest}\n"
        for image in result.images
    ]
    return "".join(lines) + (
        f"{path}: {size_text(result.fetched_bytes)} fetched, {size_text(result.reused_bytes)} reused,"
        f" {duration_text(result.seconds)}\n"
    )


def _table(results: Sequence[OutputResult]) -> str:
    rows = [("IMAGE", "OUTPUT", "FETCHED", "REUSED", "TIME", "RESULT")]
    rows += [
        (
            one_line(result.request.label),
            str(result.request.path),
            size_text(result.fetched_bytes),
            size_text(result.reused_bytes),
            duration_text(result.seconds),
            result.outcome.value,
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in rows
    )


def failures(report: PullReport) -> str:
    """One line a failure, and what to do with what was kept."""
    lines = []
    for result in report.results:
        if result.error is not None:
            label = f"{one_line(result.request.label)}: " if len(report.results) > 1 else ""
            lines.append(f"ecr-async-pull: {label}{result.error}\n")
    lines += [
        f"ecr-async-pull: what was fetched is kept in {path}; the same command goes on from there\n"
        for path in report.kept
    ]
    return "".join(lines)


def as_json(report: PullReport) -> str:
    """One JSON object; bytes are of stored blobs."""
    document = {
        "results": [
            {
                "output": str(result.request.path),
                "outcome": result.outcome.value,
                "fetched_bytes": result.fetched_bytes,
                "reused_bytes": result.reused_bytes,
                "seconds": round(result.seconds, 3),
                "images": [
                    {
                        "reference": image.reference,
                        "manifest_digest": image.manifest_digest,
                        "image_id": image.image_id,
                        "platform": image.platform,
                        "names": image.names,
                    }
                    for image in result.images
                ],
                "error": None
                if result.error is None
                else {"message": str(result.error), "exit_code": result.error.exit_code},
            }
            for result in report.results
        ],
        "kept": [str(path) for path in report.kept],
    }
    return json.dumps(document) + "\n"

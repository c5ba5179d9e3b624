"""`ecr-async-pull pull REF...`"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .image_list import add_image_options

if TYPE_CHECKING:
    from ..orchestrator.request import OutputRequest
    from ..settings import PullSettings
    from .outputs import ListedImage

_HELP = "pull images into archives"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `pull` command."""
    parser = subparsers.add_parser("pull", help=_HELP, description=f"{_HELP.capitalize()}.")
    add_image_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="a file, or a directory for one archive an image (default: <last part>-<tag>.tar here)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be fetched; see du")
    parser.add_argument(
        "--shard",
        metavar="INDEX/COUNT",
        help="pull this worker's share of the images only; the index counts from 0. auto/COUNT and auto take"
        " it from Kubernetes Indexed Jobs and AWS Batch array jobs",
    )
    add_format_options(parser)
    add_connection_options(parser)
    add_transfer_options(parser)
    add_store_options(parser)
    add_display_options(parser)
    parser.set_defaults(run=run)


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--format",
        choices=("docker-archive", "docker-legacy", "oci-archive", "oci"),
        default="docker-archive",
        help="docker-archive (default) loads everywhere; docker-legacy is docker save before 25; oci is a"
        " directory",
    )
    group.add_argument("--keep-compressed", action="store_true", help="docker-archive: keep blobs as stored")
    group.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="default: linux on this machine's CPU")
    group.add_argument("--all-platforms", action="store_true", help="oci formats: whole indexes")
    group.add_argument(
        "--name", metavar="REPO:TAG", action="append", help="the name that engines give it; repeatable"
    )
    group.add_argument("--no-name", action="store_true", help="let engines load it without a name")
    group.add_argument(
        "--verify",
        choices=("full", "stored"),
        default="full",
        help="full (default): every diff_id too, also of layers that stay compressed",
    )


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """How registries are reached."""
    parser.add_argument("--plain-http", action="store_true", help="speak HTTP to the registry")


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """Limits that nobody needs to change."""
    group = parser.add_argument_group("limits (the defaults need no tuning)")
    group.add_argument("--max-connections", type=int, metavar="N", help="to storage hosts at once (32)")
    group.add_argument("--max-workers", type=int, metavar="N", help="threads that hash and inflate (cores)")
    group.add_argument("--segment-size", metavar="SIZE", help="largest range of one request (8MiB)")
    group.add_argument("--limit-rate", metavar="SIZE", help="bytes a second, all connections together")


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """What is kept between runs."""
    group = parser.add_argument_group("cache and resume")
    group.add_argument("--cache-dir", type=Path, metavar="DIR", help="keep blobs here for other pulls")
    group.add_argument("--cache-verify", action="store_true", help="hash what comes out of the cache too")
    group.add_argument("--offline", action="store_true", help="ask nobody but the cache")
    group.add_argument(
        "--pull-policy",
        choices=("always", "missing"),
        default="always",
        help="always (default): ask whether the tag moved; missing: ask only for what isn't here",
    )
    group.add_argument("--no-resume", action="store_true", help="forget what a broken run left")
    group.add_argument(
        "--keep-partial",
        action="store_true",
        help="when interrupted, leave what was fetched for the next run",
    )
    group.add_argument("--fail-fast", action="store_true", help="the first failure ends the others")


def add_display_options(parser: argparse.ArgumentParser) -> None:
    """What is shown."""
    group = parser.add_argument_group("display")
    group.add_argument(
        "--progress",
        choices=("auto", "bars", "lines", "jsonl", "none"),
        default="auto",
        help="on standard error; auto (default): bars on a terminal, lines elsewhere",
    )
    group.add_argument("--timings", action="store_true", help="say afterwards where the time went")
    group.add_argument("--json", action="store_true", dest="as_json", help="the result as JSON")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    group.add_argument("-v", "--verbose", action="count", default=0, help="tell retries; -vv more")


def run(arguments: argparse.Namespace) -> int:
    """Pull; returns the exit code."""
    from . import environment

    with environment.default_bundle_unread():
        from ..orchestrator.pull import pull
    from ..progress.choose import choose
    from ..progress.timings import Timings
    from . import report as reports
    from .outputs import plan_outputs
    from .running import configure_logging, run_command

    settings = settings_of(arguments)
    listed = _wanted(arguments, settings)
    outputs = plan_outputs(listed, arguments.output, settings.archive_format) if listed else ()
    if arguments.dry_run:
        return _dry_run(outputs, settings, as_json=arguments.as_json)
    timings = Timings(choose(arguments.progress, sys.stderr, arguments.quiet))
    configure_logging(timings, verbosity=arguments.verbose)
    try:
        report = run_command(pull(outputs, settings, environment=os.environ, progress=timings))
    finally:
        timings.close()
    sys.stderr.write(reports.failures(report))
    if arguments.as_json:
        sys.stdout.write(reports.as_json(report))
    elif not arguments.quiet:
        sys.stdout.write(reports.as_text(report))
    if arguments.timings:
        sys.stderr.write(timings.report().text() + "\n")
    return report.exit_code


def _dry_run(outputs: Sequence[OutputRequest], settings: PullSettings, *, as_json: bool) -> int:
    from ..orchestrator.estimate import estimate
    from .du import show
    from .running import run_command

    requests = [image for output in outputs for image in output.images]
    found = run_command(estimate(requests, settings, os.environ, outputs=outputs))
    return show(found, as_json=as_json)


def _wanted(arguments: argparse.Namespace, settings: PullSettings) -> tuple[ListedImage, ...]:
    """The images that the command line names, or this worker's share of them."""
    from ..errors import UsageError
    from .image_list import listed_images
    from .names import names_of
    from .running import run_command
    from .shards import shard_of

    shard = shard_of(arguments.shard, os.environ)
    listed = listed_images(arguments, names=names_of(arguments.name, is_nameless=arguments.no_name))
    if arguments.name and len(listed) > 1:
        raise UsageError("--name is for one image; write name=REPO:TAG into a list (-f), or leave it out")
    if shard is None:
        return listed
    from ..orchestrator.sharding import select_shard

    own = run_command(select_shard([one.image for one in listed], shard, settings, os.environ))
    if not arguments.quiet:
        sys.stderr.write(f"shard {shard}: {len(own)} of {len(listed)} images\n")
    return tuple(one for one in listed if one.image in own)


def settings_of(arguments: argparse.Namespace) -> PullSettings:
    """The command line and the environment as one frozen object. Raises `UsageError`."""
    from ..model.quantity import parse_bytes
    from ..settings import ArchiveFormat, PullPolicy, PullSettings, TransferSettings, Verify
    from . import environment

    defaults = TransferSettings()

    def given(value: int | None, default: int) -> int:
        return default if value is None else value

    transfer = TransferSettings(
        max_connections=given(arguments.max_connections, defaults.max_connections),
        max_workers=given(arguments.max_workers, defaults.max_workers),
        segment_bytes=(
            parse_bytes(arguments.segment_size) if arguments.segment_size else defaults.segment_bytes
        ),
        limit_rate_bytes_s=parse_bytes(arguments.limit_rate) if arguments.limit_rate else None,
    )
    return PullSettings(
        archive_format=ArchiveFormat(arguments.format),
        keep_compressed=arguments.keep_compressed,
        is_all_platforms=arguments.all_platforms,
        verify=Verify(arguments.verify),
        policy=PullPolicy(arguments.pull_policy),
        cache_dir=environment.cache_dir(os.environ, arguments.cache_dir),
        checks_cache=arguments.cache_verify,
        is_offline=arguments.offline,
        state_dir=environment.state_dir(),
        resumes=not arguments.no_resume,
        keeps_partial=arguments.keep_partial,
        is_fail_fast=arguments.fail_fast,
        connection=environment.connection_settings(os.environ, plain_http=arguments.plain_http),
        transfer=transfer,
    )

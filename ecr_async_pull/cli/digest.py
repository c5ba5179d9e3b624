"""`ecr-async-pull digest REF...`: what references name right now."""

from __future__ import annotations

import argparse
import os
import sys

from .image_list import add_image_options

_HELP = "print the digest that each reference names now, such as for the key of a CI cache"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `digest` command."""
    parser = subparsers.add_parser(
        "digest",
        help=_HELP,
        description=f"{_HELP[0].upper()}{_HELP[1:]}: that of the manifest or index, one a line,"
        " by one small request.",
    )
    add_image_options(parser)
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="the digest of this platform's manifest instead"
    )
    parser.add_argument("--plain-http", action="store_true", help="speak HTTP to the registry")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the digests; returns the exit code, the worst where references fail."""
    from . import environment

    with environment.default_bundle_unread():
        from ..orchestrator.digests import current_digests
    from ..errors import PullError
    from ..settings import PullSettings
    from .image_list import listed_images
    from .running import run_command

    settings = PullSettings(
        connection=environment.connection_settings(os.environ, plain_http=arguments.plain_http)
    )
    requests = [one.image for one in listed_images(arguments)]
    worst = 0
    found = run_command(current_digests(requests, settings, os.environ))
    for request, digest in zip(requests, found, strict=True):
        if isinstance(digest, PullError):
            label = f"{request.reference}: " if len(requests) > 1 else ""
            sys.stderr.write(f"ecr-async-pull: {label}{digest}\n")
            worst = max(worst, digest.exit_code)
        else:
            sys.stdout.write(f"{digest}\n")
    return worst

"""The command's entry: which command, which exit code. Imports nothing heavy before it is needed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import PullError
from . import cache, digest, du, pull, verify

_COMMANDS = (pull, du, digest, verify, cache)
_INTERRUPTED = 130
_USAGE = 2


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="ecr-async-pull",
        description="Pull container images out of AWS ECR (and other registries) without Docker: concurrent,"
        " verified, into a tar that docker load accepts.",
        epilog="A bare reference means pull: ecr-async-pull REF is ecr-async-pull pull REF."
        " Exit codes: 0 all is well, 2 usage, 3 login, 4 registry or network, 5 damaged bytes, 6 disk,"
        " 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"ecr-async-pull {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code. Every foreseen failure is one line on standard error."""
    parser = build_parser()
    arguments = parser.parse_args(_with_command(argv, parser))
    try:
        code: int = arguments.run(arguments)
    except PullError as error:
        sys.stderr.write(f"ecr-async-pull: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("ecr-async-pull: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _with_command(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """A first word that is no command, and no option of our own, is what `pull` is given."""
    first = argv[0] if argv else ""
    names = [
        name
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name in action.choices
    ]
    if not first or first in names or first in ("-h", "--help", "--version"):
        return list(argv)
    return ["pull", *argv]


def run() -> NoReturn:
    """The console script."""
    sys.exit(main(sys.argv[1:]))

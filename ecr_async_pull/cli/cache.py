"""`ecr-async-pull cache info|verify|prune|path`: look after the blob cache."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store.cache import BlobCache

_HELP = "look after the blob cache"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `cache` command and those below it."""
    parser = subparsers.add_parser("cache", help=_HELP, description=f"{_HELP.capitalize()}.")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    info = _add(actions, "info", _info, "what is in the cache")
    info.add_argument(
        "--json", action="store_true", dest="as_json", help="one JSON object; bytes, Unix times"
    )
    verify = _add(actions, "verify", _verify, "hash every blob; ends with 5 where one is damaged")
    verify.add_argument("--repair", action="store_true", help="drop what is damaged: a pull fetches it again")
    prune = _add(
        actions,
        "prune",
        _prune,
        "remove blobs, least recently used first, none that a pull uses; without limits only leftovers",
    )
    prune.add_argument("--max-size", metavar="SIZE", help="leave at most so much, as in 10G")
    prune.add_argument("--older-than", metavar="SPAN", help="remove what wasn't used for so long, as in 14d")
    prune.add_argument("--dry-run", action="store_true", help="only name what would be removed")
    prune.add_argument(
        "--staging",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="also remove what broken pulls left in this output directory; repeatable",
    )
    _add(actions, "path", _path, "print the cache's directory")


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: object,
    text: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="the cache (default: ECR_ASYNC_PULL_CACHE_DIR)"
    )
    parser.set_defaults(run=run)
    return parser


def _info(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ..progress.text import size_text

    cache = _opened(arguments)
    try:
        info = cache.info()
    finally:
        cache.close()
    if arguments.as_json:
        sys.stdout.write(json.dumps({"path": str(cache.directory), **asdict(info)}) + "\n")
        return 0
    sys.stdout.write(f"{cache.directory}: {info.blobs} blobs, {size_text(info.size_bytes)}\n")
    if info.ingest_bytes:
        sys.stdout.write(f"  {size_text(info.ingest_bytes)} of unfinished blobs\n")
    if info.oldest_use_s is not None and info.newest_use_s is not None:
        sys.stdout.write(f"  used last between {_when(info.oldest_use_s)} and {_when(info.newest_use_s)}\n")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from ..errors import IntegrityError
    from ..progress.text import size_text

    cache = _opened(arguments)
    seen: list[int] = []
    try:
        problems = cache.verify(
            repair=arguments.repair, on_blob=lambda _, size_bytes: seen.append(size_bytes)
        )
    finally:
        cache.close()
    for problem in problems:
        what = "dropped" if problem.was_dropped else "left as it is; --repair drops it"
        sys.stderr.write(
            f"ecr-async-pull: blob {problem.digest} is damaged: its bytes have {problem.actual}; {what}\n"
        )
    verdict = f"{len(problems)} damaged" if problems else "all right"
    sys.stdout.write(f"{cache.directory}: {len(seen)} blobs, {size_text(sum(seen))}: {verdict}\n")
    return IntegrityError.exit_code if problems else 0


def _prune(arguments: argparse.Namespace) -> int:
    from ..model.quantity import parse_bytes, parse_duration_s
    from ..progress.text import size_text
    from . import environment

    max_size = None if arguments.max_size is None else parse_bytes(arguments.max_size)
    older_than_s = None if arguments.older_than is None else parse_duration_s(arguments.older_than)
    has_cache = environment.cache_dir(os.environ, arguments.cache_dir) is not None
    is_of_cache = max_size is not None or not arguments.staging or (older_than_s is not None and has_cache)
    verb = "would remove" if arguments.dry_run else "removed"
    freed = 0
    if is_of_cache:
        cache = _opened(arguments)
        try:
            removed = cache.prune(
                max_size_bytes=max_size, older_than_s=older_than_s, dry_run=arguments.dry_run
            )
        finally:
            cache.close()
        for one in removed:
            sys.stdout.write(
                f"{verb} {one.kind.value} {one.digest}, {size_text(one.size_bytes)},"
                f" used last {_when(one.last_use_s)}\n"
            )
            freed += one.size_bytes
    for parent in arguments.staging:
        freed += _prune_staging(parent, older_than_s=older_than_s, verb=verb, is_dry=arguments.dry_run)
    sys.stdout.write(f"{verb} {size_text(freed)}\n")
    return 0


def _prune_staging(parent: Path, *, older_than_s: float | None, verb: str, is_dry: bool) -> int:
    """Returns the bytes freed. No running pull's directory is touched."""
    from ..progress.text import duration_text, size_text
    from ..store.staging import remove_stale, stale

    freed = 0
    for one in stale(parent):
        if older_than_s is not None and one.age_s <= older_than_s:
            continue
        if is_dry or remove_stale(one.path):
            sys.stdout.write(
                f"{verb} {one.path}, {size_text(one.size_bytes)}, unused for {duration_text(one.age_s)}\n"
            )
            freed += one.size_bytes
    return freed


def _path(arguments: argparse.Namespace) -> int:
    sys.stdout.write(f"{_directory(arguments)}\n")
    return 0


def _opened(arguments: argparse.Namespace) -> BlobCache:
    """A cache that is there: looking at one never makes it."""
    from ..errors import StorageError
    from ..store.cache import BlobCache

    directory = _directory(arguments)
    if not directory.is_dir():
        raise StorageError(f"there is no cache {directory}; a pull with --cache-dir makes it")
    cache = BlobCache(directory)
    cache.open()
    return cache


def _directory(arguments: argparse.Namespace) -> Path:
    from ..errors import UsageError
    from . import environment

    directory = environment.cache_dir(os.environ, arguments.cache_dir)
    if directory is None:
        raise UsageError(
            f"no cache is configured: name one with --cache-dir or set {environment.CACHE_VARIABLE}"
        )
    return directory


def _when(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))

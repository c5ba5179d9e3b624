"""The house keeps its shape: imports go one way, every library has one door, no room grows into two."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ecr_async_pull

ROOT = Path(ecr_async_pull.__file__).parent
ROOMS = ("auth", "registry", "transfer", "store", "archive", "deliver", "orchestrator", "cli")
BASE = {"errors", "settings", "digest", "model", "progress.events"}
MODULES = sorted(ROOT.rglob("*.py"))
MOST_LINES = 350
LONGER_FOR_A_REASON = {
    "orchestrator/blob_pool.py": 450,
}
DOORS = {
    "hashlib": ("digest.py",),
    "aiohttp": ("registry/", "transfer/"),
    "yarl": ("registry/", "transfer/"),
    "aioboto3": ("auth/ecr.py",),
    "aiobotocore": ("auth/ecr.py",),
    "botocore": ("auth/ecr.py",),
    "tqdm": ("progress/bars.py",),
    "isal": ("transfer/inflate.py",),
    "stamina": ("registry/retry.py",),
    "platformdirs": ("cli/environment.py",),
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> list[str]:
    """The module's name below the package, in parts; a package's own is its directory's."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def is_module(parts: list[str]) -> bool:
    return ROOT.joinpath(*parts).with_suffix(".py").is_file() or ROOT.joinpath(*parts).is_dir()


def own_imports(path: Path) -> Iterator[list[str]]:
    """Every module of ours that this one imports, also inside functions; as parts below the package."""
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == ROOT.name:
                    yield alias.name.split(".")[1:]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - (node.level - 1)]
            elif node.module and node.module.split(".")[0] == ROOT.name:
                base = []
            else:
                continue
            named = (node.module or "").split(".") if node.module else []
            base = base + (named if node.level else named[1:])
            for alias in node.names:
                yield [*base, alias.name] if is_module([*base, alias.name]) else base


def foreign_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value).split(".")[0]


def is_base(parts: list[str]) -> bool:
    return not parts or parts[0] in BASE or ".".join(parts[:2]) in BASE


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    here = dotted(path)
    if here == ["__main__"]:
        return
    for target in own_imports(path):
        step = f"{'.'.join(here)} imports {'.'.join(target)}"
        if is_base(target):
            continue
        if is_base(here):
            if not here:  # the package itself hands on names
                continue
            raise AssertionError(f"{step}: what all rooms stand on imports none of them")
        if target[0] == here[0]:
            continue
        assert target[0] in (*ROOMS, "progress"), step
        if target[0] == "progress":
            assert here[0] == "cli", f"{step}: only the command line chooses a display"
        elif here[0] == "progress":
            raise AssertionError(f"{step}: displays know events alone")
        else:
            assert ROOMS.index(target[0]) < ROOMS.index(here[0]), f"{step}: that is upward"


def test_no_module_imports_itself_around_a_corner() -> None:
    graph = {".".join(dotted(path)): {".".join(one) for one in own_imports(path)} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done or name not in graph:
            return
        for target in sorted(graph[name] - {name, ""}):
            visit(target, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_library_has_one_door(library: str) -> None:
    users = [name_of(path) for path in MODULES if library in set(foreign_imports(path))]
    assert all(user.startswith(DOORS[library]) for user in users), users


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_room_grows_into_two(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER_FOR_A_REASON.get(name_of(path), MOST_LINES)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_prints_and_nothing_is_a_drawer(path: Path) -> None:
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if ast.unparse(node.func) == "print"]
    assert not {"utils", "util", "helpers", "manager", "common", "misc"} & set(dotted(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_below_the_edges_reads_the_environment(path: Path) -> None:
    if dotted(path)[:1] in (["cli"], ["progress"]):
        return
    text = {ast.unparse(node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    assert not text & {"os.environ", "os.environb"}
    assert "os.getenv" not in text


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_error_is_swallowed_whole(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            is_broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            does_nothing = all(isinstance(one, ast.Pass | ast.Continue) for one in node.body)
            assert not (is_broad and does_nothing), node.lineno


def test_every_module_is_parsed() -> None:
    assert len(MODULES) > 50

"""The README tells the truth: its commands run, its outputs are real, its tables name all that there is."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import ecr_async_pull
from ecr_async_pull.cli.main import build_parser
from tests.standin.documents import make_index
from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.server import StandIn

from .command import random_layer
from .readme import LANGUAGES, README, Step, blocks, normal, script, steps

TEXT = README.read_text(encoding="utf-8")
STEPS = steps(TEXT)
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
MB = 1_000_000
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$STUB_LOG"
"""
DOCKER_STUB = (
    STUB
    + """[ "$1 $2" = "load -i" ] && tar -tf "$3" > /dev/null
"""
)


def images() -> dict[str, BuiltImage]:
    """What the README pulls: `team/app` for two platforms, and `team/worker` on the same base."""
    base = random_layer(1, 9 * MB, oci=True)
    platforms = ("linux/amd64", "linux/arm64")
    app = [
        ImageBuilder(oci=True, platform=platform).add(base, random_layer(at, 2 * MB, oci=True)).build()
        for at, platform in enumerate(platforms, 2)
    ]
    worker = ImageBuilder(oci=True).add(base, random_layer(4, 3 * MB, oci=True)).build()
    return {"team/app": make_index(app), "team/worker": worker}


@pytest.fixture(scope="module")
def served() -> Iterator[StandIn]:
    with StandIn.threaded() as standin:
        for repository, image in images().items():
            for tag in ("1.4", "latest"):
                standin.add(repository, tag, image)
        yield standin


@pytest.fixture(scope="module")
def environment(served: StandIn, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's: a home, a profile `ci`, the command in PATH, and stubs for what isn't here."""
    home = tmp_path_factory.mktemp("user")
    stubs = home / "bin"
    stubs.mkdir()
    for name, text in {"docker": DOCKER_STUB, "pipx": STUB}.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    for name, module in {"ecr-async-pull": "-m ecr_async_pull", "python3": ""}.items():
        (stubs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (stubs / name).chmod(0o755)
    own = {
        **served.environment(),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "DOCKER_CONFIG": str(home / ".docker"),
        "PATH": f"{stubs}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(README.parent),
        "SSL_CERT_FILE": str(served.ca_file),
        "STUB_LOG": str(home / "stubs.log"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    keys = {name: own[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    (home / ".aws").mkdir()
    lines = [f"{name.lower()} = {value}" for name, value in keys.items()]
    (home / ".aws/credentials").write_text("\n".join(["[ci]", *lines, ""]))
    return own


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the steps came to."""

    record: Path
    end: str

    def of(self, number: int) -> tuple[int, str, str]:
        at = self.record / str(number)
        assert at.with_suffix(".code").exists(), f"not reached: {self.end}"
        out, err = (at.with_suffix(suffix).read_text() for suffix in (".out", ".err"))
        return int(at.with_suffix(".code").read_text()), out, err


@pytest.fixture(scope="module")
def transcript(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Transcript:
    """All steps, one after the other, in one shell and one directory."""
    record, work = tmp_path_factory.mktemp("record"), tmp_path_factory.mktemp("reader")
    result = subprocess.run(
        ["bash", "-c", script(STEPS, record)],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    last = max(record.glob("*.err"), key=lambda path: int(path.stem))
    return Transcript(record, result.stderr + last.read_text())


@pytest.mark.parametrize("number", range(len(STEPS)), ids=lambda number: STEPS[number].name)
def test_a_command_does_what_the_readme_shows(transcript: Transcript, number: int) -> None:
    step = STEPS[number]
    code, out, err = transcript.of(number)
    if step.shown is None:
        assert code == 0, err
        return
    shown = normal("\n".join(step.shown))
    is_error = shown.startswith("ecr-async-pull: ")
    assert (code != 0) == is_error, err
    said = out
    if is_error:
        said = "\n".join(line for line in err.splitlines() if line.startswith("ecr-async-pull: "))
    assert normal(said) == shown


def test_every_fence_says_what_is_done_with_it() -> None:
    assert {block.language for block in blocks(TEXT)} <= LANGUAGES
    for block in blocks(TEXT):
        if block.language == "json":
            json.loads(block.text)


def test_make_targets_and_the_license_are_there() -> None:
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([a-z]+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert (README.parent / "LICENSE").is_file()
    assert (README.parent / ".ci/run").is_file()


def test_every_link_within_leads_to_a_heading() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= headings


# -- recipes ------------------------------------------------------------------------------------------------


def recipe(heading: str) -> Any:
    (text,) = [block.text for block in blocks(TEXT) if block.language == "yaml" and block.heading == heading]
    return yaml.safe_load(text)


def run_shell(
    command: str, environment: dict[str, str], cwd: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command],
        cwd=cwd,
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result


def test_the_github_recipe_runs_and_its_key_is_the_digest(
    environment: dict[str, str], served: StandIn, tmp_path: Path
) -> None:
    workflow = recipe("GitHub Actions")
    steps = workflow["jobs"]["integration"]["steps"]
    cached = next(step["with"] for step in steps if step.get("uses", "").startswith("actions/cache@"))
    outputs = tmp_path / "outputs"
    log = Path(environment["STUB_LOG"])
    for run in range(2):
        served.log.clear()
        for step in (one for one in steps if "run" in one):
            more = {**workflow["env"], **step.get("env", {})}
            run_shell(step["run"], environment, tmp_path, GITHUB_OUTPUT=str(outputs), **more)
        assert (run == 0) == any(each.server == "storage" for each in served.requests)
        (tmp_path / "image.tar").unlink()
    assert cached["key"] == "images-${{ steps.image.outputs.digest }}"
    assert outputs.read_text() == 2 * f"digest={images()['team/app'].digest}\n"
    assert (tmp_path / cached["path"] / "blobs").is_dir()
    assert "docker load -i image.tar" in log.read_text().splitlines()


def test_the_gitlab_recipe_runs(environment: dict[str, str], tmp_path: Path) -> None:
    job = recipe("GitLab CI")["integration"]
    more = {name: value.replace("$CI_PROJECT_DIR", str(tmp_path)) for name, value in job["variables"].items()}
    run_shell("\n".join(job["script"]), environment, tmp_path, CI_PROJECT_DIR=str(tmp_path), **more)
    (path,) = job["cache"]["paths"]
    assert (tmp_path / path / "blobs").is_dir()


def write_list(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    references = [f"{REGISTRY}/{name}:{tag}" for name in images() for tag in ("1.4", "latest")]
    (tmp_path / "images.txt").write_text("\n".join(references))


def test_the_kubernetes_recipe_pulls_each_image_once(environment: dict[str, str], tmp_path: Path) -> None:
    spec = recipe("Fleets")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    write_list(tmp_path)
    pulled: list[str] = []
    for index in range(spec["completions"]):
        command = [*container["command"], "--json"]
        result = run_shell(" ".join(command), environment, tmp_path, JOB_COMPLETION_INDEX=str(index))
        pulled += [one["output"] for one in json.loads(result.stdout)["results"]]
    assert sorted(pulled) == [
        f"images/{name}-{tag}.tar" for name in ("app", "worker") for tag in ("1.4", "latest")
    ]


def test_the_batch_recipe_pulls_each_image_once(environment: dict[str, str], tmp_path: Path) -> None:
    (script_text,) = [block.text for block in blocks(TEXT) if "cat > pull.sh" in block.text]
    write_list(tmp_path)
    run_shell(script_text, environment, tmp_path)
    for index in range(2):
        run_shell(
            "./pull.sh", environment, tmp_path,
            AWS_BATCH_JOB_ARRAY_INDEX=str(index), AWS_BATCH_JOB_ARRAY_SIZE="2",
        )  # fmt: skip
    assert len(os.listdir(tmp_path / "images")) == 4


def test_what_the_readme_pulled_is_what_it_says(transcript: Transcript, tmp_path: Path) -> None:
    assert all((transcript.record / f"{number}.code").exists() for number in range(len(STEPS)))
    with tarfile.open(next(transcript.record.parent.glob("reader*/named.tar"))) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        assert json.loads(member.read())[0]["RepoTags"] == ["app:stable", "app:1"]


# -- reference ----------------------------------------------------------------------------------------------


def all_commands(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                found |= all_commands(below, f"{name} {word}".strip())
    return found


def real_options(parser: argparse.ArgumentParser) -> set[str]:
    """Each spelling with its metavar, as `--help` shows it; choices are told in words."""
    found = set()
    for action in parser._actions:
        shows_value = action.nargs != 0 and action.choices is None
        metavar = f" {action.metavar}" if shows_value else ""
        found |= {f"{spelling}{metavar}" for spelling in action.option_strings}
    return found - {"-h", "--help"}


def told_options() -> dict[str, set[str]]:
    """Out of the reference's tables, whose rows begin with the command and the option's spellings."""
    reference = TEXT[TEXT.index("## Reference") : TEXT.index("### Exit codes")]
    found: dict[str, set[str]] = {}
    for commands, spellings in re.findall(
        r"^\| (`[^|]*`) \| (`-[^|]*`) \|", reference.replace("\\|", "/"), re.M
    ):
        for command in re.findall(r"`([^`]*)`", commands):
            found.setdefault(command, set()).update(re.findall(r"`([^`]*)`", spellings))
    for spellings in re.findall(r"^\| (`-[^|]*`) \|", reference, re.M):
        found.setdefault("pull", set()).update(re.findall(r"`([^`]*)`", spellings))
    return found


def test_the_reference_has_every_option_and_no_other() -> None:
    told = told_options()
    for name, parser in all_commands(build_parser()).items():
        if name in {"", "cache"}:
            continue
        assert told.pop(name, set()) == real_options(parser), name
    assert not told


def test_the_reference_tells_every_choice() -> None:
    for parser in all_commands(build_parser()).values():
        for action in parser._actions:
            if action.option_strings and action.choices:
                assert all(f"`{choice}`" in TEXT for choice in action.choices), action.option_strings


def test_every_command_is_told() -> None:
    reference = TEXT[TEXT.index("## Reference") :]
    for name in all_commands(build_parser()):
        assert re.search(rf"`(ecr-async-pull )?{name}\b", reference), name


def test_json_fields_are_those_that_are_written(transcript: Transcript, environment: dict[str, str]) -> None:
    work = next(transcript.record.parent.glob("reader*/app-1.4.tar")).parent
    image = f"{REGISTRY}/team/app:1.4"
    table = TEXT[TEXT.index("### JSON") : TEXT.index("### Files")]

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for one in value.values() for key in keys(one)}
        return {key for one in value for key in keys(one)} if isinstance(value, list) else set()

    for command in (
        f"pull {image} -o fields.tar --json",
        f"du {image} --json",
        "cache info --cache-dir cache --json",
    ):
        document = json.loads(run_shell(f"ecr-async-pull {command}", environment, work).stdout)
        assert not {key for key in keys(document) if f"`{key}`" not in table}, command
    document = json.loads(run_shell("ecr-async-pull verify app-1.4.tar --json", environment, work).stdout)
    assert not {key for key in document if f"`{key}`" not in table}


def test_the_environment_table_names_what_is_read() -> None:
    read = set()
    for path in Path(ecr_async_pull.__file__).parent.rglob("*.py"):
        read |= set(re.findall(r'"((?:ECR_ASYNC_PULL|JOB|AWS_BATCH|SSL|DOCKER)_[A-Z_]+)"', path.read_text()))
    assert read
    assert all(f"`{name}`" in TEXT for name in read), read


def test_the_rooms_and_modules_are_those_of_the_tree() -> None:
    root = Path(ecr_async_pull.__file__).parent
    table = TEXT[TEXT.index("| room |") : TEXT.index("**The engine.**")]
    told = {
        room: set(re.findall(r"`([a-z0-9_]+)`", modules))
        for room, modules in re.findall(r"^\| `([a-z/]+)` \| (.*) \|$", table, re.M)
    }
    real = {
        f"{directory.name}/": {path.stem for path in directory.glob("*.py")} - {"__init__"}
        for directory in root.iterdir()
        if (directory / "__init__.py").is_file()
    }
    real["/"] = {path.stem for path in root.glob("*.py")} - {"__init__", "__main__"}
    assert told == real


def test_steps_are_found() -> None:
    assert len(STEPS) > 30
    assert any(isinstance(step, Step) and step.shown is None for step in STEPS)

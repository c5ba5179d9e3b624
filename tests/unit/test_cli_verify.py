"""The `verify` command: what is printed where, and the exit codes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from ecr_async_pull.cli.verify import add_parser

from .test_verify import NAME, crane_files, flipped, write_tar


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["verify", *arguments])
    code = parsed.run(parsed)
    assert isinstance(code, int)
    return code


def wrong_archive(path: Path) -> tuple[Path, str]:
    files = crane_files()
    name = next(name for name in files if name.endswith(".gz"))
    return write_tar(path, {**files, name: flipped(files[name], 5000 % len(files[name]))}), name


def test_a_right_archive_ends_with_0_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tar(tmp_path / "a.tar", crane_files())
    assert run(str(path)) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{path}: docker-archive: right\n  {NAME}\n    sha256:")
    assert "linux/amd64, 2 layers" in captured.out
    assert captured.err == ""


def test_a_wrong_archive_ends_with_5_and_its_findings_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = write_tar(tmp_path / "right.tar", crane_files())
    wrong, name = wrong_archive(tmp_path / "wrong.tar")
    assert run(str(wrong), str(right)) == 5
    captured = capsys.readouterr()
    assert f"{wrong}: docker-archive: WRONG, 1 finding\n" in captured.out
    assert f"{right}: docker-archive: right\n" in captured.out
    assert captured.err.startswith(f"{wrong}: {name}: ")
    assert len(captured.err.splitlines()) == 1


def test_json_is_one_object_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, name = wrong_archive(tmp_path / "wrong.tar")
    assert run("--json", str(wrong)) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["is_right"] is False
    assert document["kind"] == "docker-archive"
    assert document["findings"][0]["where"] == name
    assert document["images"][0]["names"] == [NAME]
    assert document["images"][0]["layers"] == 2

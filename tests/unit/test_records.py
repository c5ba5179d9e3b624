"""An output is current only while it is the very file that was remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ecr_async_pull.store.records import OutputRecords


@pytest.fixture
def records(tmp_path: Path) -> OutputRecords:
    return OutputRecords(tmp_path / "state" / "outputs")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(b"archive")
    return path


def test_an_untouched_output_is_current(records: OutputRecords, output: Path) -> None:
    assert not records.is_current(output, "f1")
    records.remember(output, "f1")
    assert records.is_current(output, "f1")
    assert OutputRecords(output.parent / "state" / "outputs").is_current(output, "f1")


def test_another_fingerprint_is_not_current(records: OutputRecords, output: Path) -> None:
    records.remember(output, "f1")
    assert not records.is_current(output, "f2")


def test_a_relative_path_names_the_same_output(
    records: OutputRecords, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.remember(output, "f1")
    monkeypatch.chdir(output.parent)
    assert records.is_current(Path("image.tar"), "f1")


def rewrite_in_place(path: Path) -> None:
    """Size, inode and mtime stay as they were: only ctime tells, once the file system's clock has ticked."""
    status = path.stat()
    while path.stat().st_ctime_ns == status.st_ctime_ns:
        with path.open("r+b") as file:
            file.write(b"ARCHIVE")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    status = path.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.replace(path)


def truncate(path: Path) -> None:
    os.truncate(path, 3)


@pytest.mark.parametrize("change", [rewrite_in_place, replace_by_a_copy, truncate, Path.unlink])
def test_a_changed_output_is_not_current(
    records: OutputRecords, output: Path, change: Callable[[Path], None]
) -> None:
    records.remember(output, "f1")
    change(output)
    assert not records.is_current(output, "f1")


def test_forgotten_is_not_current(records: OutputRecords, output: Path) -> None:
    records.remember(output, "f1")
    records.forget(output)
    assert not records.is_current(output, "f1")
    records.forget(output)


@pytest.fixture
def oci_directory(tmp_path: Path) -> Path:
    root = tmp_path / "oci"
    (root / "blobs" / "sha256").mkdir(parents=True)
    (root / "index.json").write_text("{}")
    (root / "blobs" / "sha256" / ("a" * 64)).write_bytes(b"layer")
    return root


def test_an_oci_directory_is_current_with_its_index_and_blobs(
    records: OutputRecords, oci_directory: Path
) -> None:
    records.remember(oci_directory, "f1")
    assert records.is_current(oci_directory, "f1")
    (oci_directory / "blobs" / "sha256" / ("b" * 64)).write_bytes(b"of another image")
    assert records.is_current(oci_directory, "f1")


@pytest.mark.parametrize("damage", ["gone", "short", "index"])
def test_an_oci_directory_that_lost_something_is_not_current(
    records: OutputRecords, oci_directory: Path, damage: str
) -> None:
    records.remember(oci_directory, "f1")
    blob = oci_directory / "blobs" / "sha256" / ("a" * 64)
    if damage == "gone":
        blob.unlink()
    elif damage == "short":
        os.truncate(blob, 2)
    else:
        (oci_directory / "index.json").write_text('{"manifests":[]}')
    assert not records.is_current(oci_directory, "f1")


def test_records_are_private(records: OutputRecords, output: Path) -> None:
    records.remember(output, "f1")
    directory = output.parent / "state" / "outputs"
    assert directory.stat().st_mode & 0o777 == 0o700
    (record,) = directory.iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    assert json.loads(record.read_bytes())["fingerprint"] == "f1"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"fingerprint":"f1"}', b"\xff\xfe"])
def test_a_damaged_record_only_means_not_current(records: OutputRecords, output: Path, raw: bytes) -> None:
    records.remember(output, "f1")
    (record,) = (output.parent / "state" / "outputs").iterdir()
    record.write_bytes(raw)
    assert not records.is_current(output, "f1")


def test_a_state_directory_that_cannot_be_made_fails_nothing(output: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    records = OutputRecords(tmp_path / "file" / "outputs")
    records.remember(output, "f1")
    assert not records.is_current(output, "f1")
    records.forget(output)

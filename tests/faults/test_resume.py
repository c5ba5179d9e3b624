"""What broke goes on from the bytes it has: kills, lost networks, power cuts, full disks, two at once."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ecr_async_pull.errors import StorageError, TransientError
from tests.faults.soak import SCENARIOS, Soak
from tests.integration.command import distinct_blob_bytes, family, random_layer
from tests.pulling import FORMATS, Site, prove_any, tree_digest
from tests.standin import faults
from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.server import StandIn

MIB = 1 << 20
_PATIENCE_S = 30
STAGING = ".ecr-async-pull-"


def image_of(*sizes: int, seed: int = 1) -> BuiltImage:
    return ImageBuilder().add(*(random_layer(seed + at, size) for at, size in enumerate(sizes))).build()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)


def served(site: Site, process: subprocess.Popen[str], count: int) -> None:
    """Return when so many bytes of blobs were served to the command, which must not end before."""
    until(lambda: site.standin.log.blob_bytes >= count or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def staged(site: Site) -> list[Path]:
    return [path for path in site.directory.iterdir() if path.name.startswith(STAGING)]


def break_off(site: Site, reference: str, form: str, image: BuiltImage, **changes: Any) -> None:
    """Pull until nothing but one range of the largest layer is missing; what came is kept."""
    largest = max(image.layers, key=lambda layer: layer.size_bytes)
    site.standin.faults.add(
        faults.Status(500), server="storage", digest=largest.digest, covers=MIB + MIB // 2
    )
    with pytest.raises(TransientError):
        site.pull(reference, form, transfer={"attempts": 2}, **changes)
    assert "out" not in site.left()
    site.standin.faults.clear()
    site.standin.log.clear()


# -- kills -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("docker-archive", 8),
        ("docker-archive, cached", 4),
        ("keep-compressed", 4),
        ("oci", 4),
        ("list, keep-compressed", 8),
    ],
)
def test_killed_again_and_again_the_same_command_ends_well(
    running: StandIn, tmp_path: Path, name: str, kills: int
) -> None:
    scenario = SCENARIOS[name]
    images = family(3 if scenario.is_list else 1, base_bytes=4 * MIB, own_bytes=MIB)
    soak = Soak(running, images, scenario, tmp_path / "soak", seed=len(name), connection_bytes_s=400_000)
    running.log.clear()
    try:
        result = soak.run(kills)
    finally:
        running.faults.clear()
    assert not result.wrong
    assert result.kills == kills
    assert result.ratio <= 1.1


def killed_after(site: Site, count: int, *arguments: str) -> None:
    """Start the command, and kill it when so many bytes of blobs were served."""
    with site.started(*arguments) as process:
        served(site, process, count)
        process.kill()
        process.wait()


def test_a_blob_that_finished_images_shared_is_not_fetched_again_for_the_rest(site: Site) -> None:
    """Its place in the archive and its place for sharing are two: the bytes stay where they are."""
    base, first, last = random_layer(1, 3 * MIB), random_layer(2, 100_000), random_layer(3, 4 * MIB)
    references = [site.add(ImageBuilder().add(base, own).build()) for own in (first, last)]
    (site.directory / "first").mkdir()
    (site.directory / "last").mkdir()
    lines = [
        f"{one} output={name}/image.tar\n" for one, name in zip(references, ("first", "last"), strict=True)
    ]
    (site.directory / "images.txt").write_text("".join(lines))
    site.standin.faults.add(faults.Slow(150_000), server="storage", digest=last.digest)
    with site.started("pull", "-f", "images.txt", "--keep-compressed") as process:
        until((site.directory / "first" / "image.tar").exists)
        until(lambda: len(list(site.home.rglob("requests/*.json"))) == 1)
        process.kill()
        process.wait()
    site.standin.faults.clear()
    site.standin.log.clear()
    assert site.command("pull", "-f", "images.txt", "--keep-compressed").returncode == 0
    assert not site.standin.log.of("storage", digest=base.digest)
    for name in ("first", "last"):
        assert os.listdir(site.directory / name) == ["image.tar"]


def test_what_was_killed_while_it_tidied_up_is_tidied_up_by_the_next(site: Site) -> None:
    reference = site.add(image_of(100_000))
    site.standin.faults.add(faults.Slow(100_000), server="storage")
    killed_after(site, 50_000, "pull", reference, "-o", "out")
    (left,) = staged(site)
    kept = site.directory / "kept"
    left.rename(kept)
    assert site.command("pull", reference, "-o", "out").returncode == 0
    kept.rename(left)
    assert "up to date" in site.command("pull", reference, "-o", "out").stdout
    assert site.left() == {"out"}


# -- the network -------------------------------------------------------------------------------------------


class Wire:
    """A TCP relay to the stand-in's proxy that can be cut, so that nobody answers, and mended."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._pairs: list[socket.socket] = []
        self.port = 0

    def mend(self) -> None:
        listener = self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        listener, self._listener = self._listener, None
        for one in [listener, *self._pairs]:
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs += [near, far]
                threading.Thread(target=_carry, args=(near, far), daemon=True).start()


def _carry(near: socket.socket, far: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while True:
            for one in select.select([near, far], [], [])[0]:
                data = one.recv(65536)
                if not data:
                    near.shutdown(socket.SHUT_RDWR)
                    far.shutdown(socket.SHUT_RDWR)
                    return
                (far if one is near else near).sendall(data)


@pytest.fixture
def wire(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    wire = Wire(site.standin.proxy.port)
    wire.mend()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{wire.port}")
    yield wire
    wire.cut()


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_lost_network_is_told_and_gone_on_from(
    site: Site, wire: Wire, tmp_path: Path, is_cached: bool
) -> None:
    image = image_of(4 * MIB, 300_000)
    reference = site.add(image)
    size = distinct_blob_bytes([image])
    cache = tmp_path / "cache" if is_cached else None
    site.standin.faults.add(faults.Slow(500_000), server="storage")

    def cut() -> None:
        until(lambda: site.standin.log.blob_bytes > size // 2)
        wire.cut()

    watcher = threading.Thread(target=cut)
    watcher.start()
    settings = site.settings(cache_dir=cache, transfer={"attempts": 3})
    report = site.pull_all([site.output(reference)], settings)
    watcher.join()
    assert report.exit_code == 4
    assert isinstance(report.results[0].error, TransientError)
    assert "out" not in site.left()
    assert (cache in report.kept) if cache else report.kept
    assert all(path.is_dir() for path in report.kept)
    wire.mend()
    site.standin.faults.clear()
    site.pull(reference, cache_dir=cache)
    prove_any(site.directory / "out", "docker-archive", image, name=reference)
    assert site.left() == {"out"}
    assert site.standin.log.blob_bytes <= size * 1.1


# -- a power cut -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", ["zeros", "noise", "ones"])
@pytest.mark.parametrize(
    ("form", "is_cached"), [("docker-archive", False), ("docker-archive", True), ("keep-compressed", False)]
)
def test_bytes_that_a_power_cut_took_are_noticed_and_fetched_again_once(
    site: Site, tmp_path: Path, form: str, is_cached: bool, garbage: str
) -> None:
    image = image_of(5 * MIB, 200_000)
    reference = site.add(image)
    changes: dict[str, Any] = {"cache_dir": tmp_path / "cache"} if is_cached else {}
    break_off(site, reference, form, image, **changes)
    spoilt = 0
    for root in (site.directory, tmp_path / "cache"):
        for path in root.rglob("*"):
            if path.is_file() and path.stat().st_size > MIB:
                size = path.stat().st_size
                fill = {
                    "zeros": bytes(size),
                    "ones": b"\xff" * size,
                    "noise": random.Random(5).randbytes(size),
                }
                path.write_bytes(fill[garbage])
                spoilt += 1
    assert spoilt
    site.pull(reference, form, **changes)
    prove_any(site.directory / "out", form, image, name=reference)
    assert site.left() == {"out"}
    assert site.standin.log.blob_bytes <= 2 * distinct_blob_bytes([image])


# -- the disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes file systems of so many bytes."""
    mounted: list[Path] = []

    def mount(size_bytes: int) -> Path:
        path = tmp_path / f"disk-{len(mounted)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a file system of its own")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("form", list(FORMATS))
def test_a_disk_that_is_too_small_is_told_before_a_byte_of_a_layer_comes(
    site: Site, small_disk: Callable[[int], Path], form: str, is_cached: bool
) -> None:
    image = image_of(3 * MIB, 500_000)
    reference = site.add(image)
    disk = site.directory = small_disk(3 * MIB)
    changes: dict[str, Any] = {"cache_dir": disk / "cache"} if is_cached else {}
    with pytest.raises(StorageError, match=r"[\d.]+ MiB are needed .* [\d.]+ MiB are free") as caught:
        site.pull(reference, form, **changes)
    assert caught.value.exit_code == 6
    digests = {layer.digest for layer in image.layers}
    assert not [one for one in site.standin.log.of("storage") if one.digest in digests]
    assert site.left() == ({"cache"} if is_cached else set())


def fill_up(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.parametrize(
    ("form", "is_cached"), [("docker-archive", False), ("docker-archive", True), ("keep-compressed", False)]
)
def test_a_disk_that_others_fill_up_leaves_what_came_for_the_same_command(
    site: Site, small_disk: Callable[[int], Path], form: str, is_cached: bool
) -> None:
    image = image_of(6 * MIB, 500_000)
    reference = site.add(image)
    disk = site.directory = small_disk(24 * MIB)
    words = ["pull", reference, "-o", "out"]
    words += ["--keep-compressed"] if form == "keep-compressed" else []
    words += ["--cache-dir", "cache"] if is_cached else []
    site.standin.faults.add(faults.Slow(500_000), server="storage")
    with site.started(*words) as process:
        served(site, process, 2 * MIB)
        filler = fill_up(disk)
        _, told = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 6, told
    assert "No space left on device" in told
    assert "kept" in told
    assert not (disk / "out").exists()
    filler.unlink()
    site.standin.faults.clear()
    site.standin.log.clear()
    assert site.command(*words).returncode == 0
    prove_any(disk / "out", form, image, name=reference)
    assert site.left() == ({"out", "cache"} if is_cached else {"out"})
    assert site.standin.log.blob_bytes < distinct_blob_bytes([image]) - MIB


@pytest.mark.parametrize("form", ["docker-archive", "keep-compressed"])
def test_what_is_kept_already_needs_no_room_a_second_time(
    site: Site, small_disk: Callable[[int], Path], form: str
) -> None:
    image = image_of(5 * MIB, 600_000)
    reference = site.add(image)
    site.directory = small_disk((13 if form == "docker-archive" else 7) * MIB + MIB // 2)
    break_off(site, reference, form, image)
    site.pull(reference, form)
    prove_any(site.directory / "out", form, image, name=reference)


# -- two at once, and on purpose ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), ("--keep-compressed",), ("--format", "oci")])
def test_two_processes_with_the_same_command_do_not_harm_each_other(
    site: Site, form: tuple[str, ...]
) -> None:
    image = image_of(2 * MIB, 300_000)
    reference = site.add(image)
    site.pull(reference, "oci" if "oci" in form else "keep-compressed" if form else "docker-archive")
    expected = tree_digest(site.directory / "out")
    (site.directory / "out").rename(site.directory.parent / "expected")
    site.standin.faults.add(faults.Slow(1_000_000), server="storage")
    words = ["pull", reference, "-o", "out", *form]
    with site.started(*words) as first, site.started(*words) as second:
        for process in (first, second):
            _, told = process.communicate(timeout=_PATIENCE_S)
            assert process.returncode == 0, told
    assert tree_digest(site.directory / "out") == expected
    assert site.left() == {"out"}


def test_stale_staging_directories_are_named_and_removed(site: Site) -> None:
    reference = site.add(image_of(500_000))
    site.standin.faults.add(faults.Slow(300_000), server="storage")
    killed_after(site, 200_000, "pull", reference, "-o", "out")
    (left,) = staged(site)
    with site.started("pull", reference, "-o", "other") as running:
        until(lambda: len(staged(site)) == 2)
        until(lambda: all((path / "lock").exists() for path in staged(site)))
        told = site.command("cache", "prune", "--staging", ".", "--cache-dir", "cache")
        assert told.returncode == 0, told.stderr
        assert left.name in told.stdout
        assert not left.exists()
        assert len(staged(site)) == 1
        running.kill()


def test_no_resume_starts_anew(site: Site) -> None:
    image = image_of(2 * MIB)
    reference = site.add(image)
    break_off(site, reference, "docker-archive", image)
    site.pull(reference, resumes=False)
    assert site.standin.log.blob_bytes == distinct_blob_bytes([image])
    assert site.left() == {"out"}


@pytest.mark.parametrize("keeps", [False, True])
def test_an_interrupt_leaves_nothing_unless_asked_to(site: Site, keeps: bool) -> None:
    image = image_of(2 * MIB)
    reference = site.add(image)
    site.standin.faults.add(faults.Slow(400_000), server="storage")
    words = ["pull", reference, "-o", "out", *(["--keep-partial"] if keeps else [])]
    with site.started(*words) as process:
        served(site, process, MIB)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 130
    assert bool(staged(site)) is keeps
    assert re.search("kept in .*" + re.escape(STAGING), told) if keeps else "kept" not in told
    site.standin.faults.clear()
    site.standin.log.clear()
    assert site.command(*words).returncode == 0
    prove_any(site.directory / "out", "docker-archive", image, name=reference)
    whole = distinct_blob_bytes([image])
    assert site.standin.log.blob_bytes < whole * 0.7 if keeps else site.standin.log.blob_bytes == whole

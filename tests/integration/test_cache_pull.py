"""The cache and the records of outputs, by the command line: what is asked for, and what comes out."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.standin.images import BuiltImage, BuiltLayer, ImageBuilder
from tests.standin.server import StandIn

from .command import Command, assert_is, distinct_blob_bytes, family, random_layer, serve

CPU_LIMIT_S = 1.5
"""Loose, for busy machines; an idle one takes some 0.4 s."""


@pytest.fixture
def command(standin: StandIn, standin_environment: dict[str, str], tmp_path: Path) -> Command:
    cwd = tmp_path / "work"
    cwd.mkdir()
    return Command(standin=standin, environment=standin_environment, cwd=cwd)


@pytest.fixture
def image(standin: StandIn) -> BuiltImage:
    """`team/app:1.0`: a layer of several ranges, and two small ones."""
    built = (
        ImageBuilder()
        .add(random_layer(1, 9_000_000), random_layer(2, 200_000))
        .layer([("text", b"compresses well " * 20_000)])
        .build()
    )
    serve(standin, {"team/app": built})
    return built


@pytest.fixture
def name(command: Command) -> str:
    return command.reference("team/app")


def cached(command: Command, digest: str) -> Path:
    return command.cwd / "cache" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def entry_of(command: Command, digest: str) -> Path:
    """What the cache knows of the blob."""
    (path,) = (command.cwd / "cache").rglob(f"{digest.removeprefix('sha256:')}.json")
    return path


def flip(path: Path) -> None:
    """One bit in the middle, in place; size and times stay."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# -- how much is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--keep-compressed",),
        ("--format", "docker-legacy"),
        ("--format", "oci-archive"),
        ("--format", "oci"),
    ],
    ids=["docker-archive", "compressed", "docker-legacy", "oci-archive", "oci"],
)
def test_a_warm_pull_asks_for_the_manifest_alone(
    command: Command, image: BuiltImage, name: str, options: tuple[str, ...]
) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar", *options)
    assert command.standin.log.blob_bytes == distinct_blob_bytes([image])
    command.standin.log.clear()
    result = command.run("pull", name, "--cache-dir", "cache", "-o", "second.tar", *options)
    assert len(command.manifest_requests()) == 1
    assert command.blob_requests() == []
    assert "0 B fetched" in result.stdout
    if "oci" not in options:
        assert (command.cwd / "first.tar").read_bytes() == (command.cwd / "second.tar").read_bytes()
    command.run("verify", "second.tar")


def test_an_up_to_date_pull_is_one_request(command: Command, image: BuiltImage, name: str) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    before = (command.cwd / "app-1.0.tar").stat()
    command.standin.log.clear()
    result = command.run("pull", name, "--cache-dir", "cache")
    assert "up to date" in result.stdout
    assert [each.server for each in command.standin.requests] == ["registry"]
    after = (command.cwd / "app-1.0.tar").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_up_to_date_pull_takes_little_processor_time(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    usage = min(command.usage("pull", name, "--cache-dir", "cache").cpu_s for _ in range(3))
    assert usage < CPU_LIMIT_S


def test_offline_asks_nobody(command: Command, image: BuiltImage, name: str) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar")
    command.standin.log.clear()
    command.run("pull", name, "--offline", "-o", "second.tar", ECR_ASYNC_PULL_CACHE_DIR="cache")
    assert not command.standin.requests
    assert_is(command.cwd / "second.tar", image, name)


def test_offline_says_what_the_cache_does_not_have(command: Command, image: BuiltImage, name: str) -> None:
    assert "not in the cache" in command.run("pull", name, "--cache-dir", "cache", "--offline", code=4).stderr
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar")
    cached(command, image.layers[0].digest).unlink()
    command.standin.log.clear()
    result = command.run("pull", name, "--cache-dir", "cache", "--offline", "-o", "second.tar", code=4)
    assert image.layers[0].digest in result.stderr
    assert not command.standin.requests
    assert not (command.cwd / "second.tar").exists()


def test_offline_asks_nobody_for_a_manifest_that_is_gone(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar")
    cached(command, image.digest).unlink()
    command.standin.log.clear()
    pinned = f"{name.rpartition(':')[0]}@{image.digest}"
    for reference in (name, pinned):
        result = command.run(
            "pull", reference, "--cache-dir", "cache", "--offline", "-o", "second.tar", code=4
        )
        assert "--offline" in result.stderr
    assert not command.standin.requests


def test_offline_without_a_cache_is_a_usage_error(command: Command, name: str) -> None:
    assert "--cache-dir" in command.run("pull", name, "--offline", code=2).stderr


def test_policy_missing_asks_nobody_where_the_output_is_there(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name)
    command.standin.log.clear()
    assert "up to date" in command.run("pull", name, "--pull-policy", "missing").stdout
    assert not command.standin.requests


def test_policy_missing_asks_nobody_where_the_cache_knows_the_tag(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar")
    command.standin.log.clear()
    command.run("pull", name, "--cache-dir", "cache", "--pull-policy", "missing", "-o", "second.tar")
    assert not command.standin.requests
    assert_is(command.cwd / "second.tar", image, name)


def test_policy_always_sees_that_the_tag_moved(command: Command, image: BuiltImage, name: str) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    moved = ImageBuilder().add(*image.layers, random_layer(9, 50_000)).build()
    command.standin.add("team/app", "1.0", moved)
    command.standin.log.clear()
    command.run("pull", name, "--cache-dir", "cache")
    assert_is(command.cwd / "app-1.0.tar", moved, name)
    assert command.standin.log.blob_bytes == moved.layers[-1].size_bytes + len(moved.config_raw)


# -- several at once --------------------------------------------------------------------------------------


def test_eight_processes_with_one_cache_fetch_each_blob_once(command: Command) -> None:
    images = family(3)
    serve(command.standin, images)
    names = [command.reference(one) for one in images]
    processes = []
    for index in range(8):
        out = command.cwd / f"out{index}"
        out.mkdir()
        order = names[index % 3 :] + names[: index % 3]
        processes.append(command.start("pull", *order, "--cache-dir", "cache", "-o", f"{out}/"))
    for process in processes:
        _, stderr = process.communicate(timeout=110)
        assert process.returncode == 0, stderr
    layers = {layer.digest: layer.size_bytes for image in images.values() for layer in image.layers}
    sent: Counter[str] = Counter()
    for each in command.standin.requests:
        if each.is_blob_body and each.digest in layers:
            sent[each.digest] += each.bytes_sent
    assert sent == layers
    for index in range(8):
        for repository, image in images.items():
            archive = command.cwd / f"out{index}" / f"{repository.rpartition('/')[2]}-1.0.tar"
            assert_is(archive, image, command.reference(repository))
    command.run("cache", "verify", "--cache-dir", "cache")


# -- damage -----------------------------------------------------------------------------------------------


def damage_flip(command: Command, layer: BuiltLayer) -> None:
    flip(cached(command, layer.digest))


def damage_write(command: Command, layer: BuiltLayer) -> None:
    """As `damage_flip`, by a program that hides nothing."""
    damage_flip(command, layer)
    os.utime(cached(command, layer.digest))


def damage_truncate(command: Command, layer: BuiltLayer) -> None:
    os.truncate(cached(command, layer.digest), layer.size_bytes // 3)


def damage_empty(command: Command, layer: BuiltLayer) -> None:
    os.truncate(cached(command, layer.digest), 0)


def damage_and_forget(command: Command, layer: BuiltLayer) -> None:
    flip(cached(command, layer.digest))
    entry_of(command, layer.digest).unlink()


@pytest.mark.parametrize(
    ("damage", "position"),
    [
        (damage_truncate, 0),
        (damage_truncate, 2),
        (damage_empty, 1),
        (damage_write, 0),
        (damage_write, 2),
        (damage_and_forget, 0),
        (damage_and_forget, 2),
    ],
)
@pytest.mark.parametrize("options", [(), ("--keep-compressed",), ("--format", "oci-archive")])
def test_a_damaged_blob_is_dropped_and_fetched_again(
    command: Command,
    image: BuiltImage,
    options: tuple[str, ...],
    damage: Callable[[Command, BuiltLayer], None],
    position: int,
) -> None:
    name = command.reference("team/app")
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar", *options)
    layer = image.layers[position]
    damage(command, layer)
    command.standin.log.clear()
    command.run("pull", name, "--cache-dir", "cache", "-o", "second.tar", *options)
    assert command.standin.log.blob_bytes == layer.size_bytes
    assert (command.cwd / "first.tar").read_bytes() == (command.cwd / "second.tar").read_bytes()
    command.run("cache", "verify", "--cache-dir", "cache")


@pytest.mark.parametrize("options", [(), ("--keep-compressed",), ("--format", "oci-archive")])
def test_cache_verify_finds_a_flipped_bit_that_nothing_else_tells(
    command: Command, image: BuiltImage, name: str, options: tuple[str, ...]
) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar", *options)
    damage_flip(command, image.layers[0])
    command.standin.log.clear()
    command.run("pull", name, "--cache-dir", "cache", "--cache-verify", "-o", "second.tar", *options)
    assert command.standin.log.blob_bytes == image.layers[0].size_bytes
    assert (command.cwd / "first.tar").read_bytes() == (command.cwd / "second.tar").read_bytes()


@pytest.mark.parametrize("position", [0, 2])
def test_unpacking_a_flipped_bit_never_gives_a_wrong_archive(
    command: Command, image: BuiltImage, name: str, position: int
) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar")
    damage_flip(command, image.layers[position])
    command.run("pull", name, "--cache-dir", "cache", "-o", "second.tar")
    assert (command.cwd / "first.tar").read_bytes() == (command.cwd / "second.tar").read_bytes()


def test_a_damaged_manifest_or_config_is_fetched_again(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "--cache-dir", "cache", "-o", "first.tar")
    flip(cached(command, image.config_digest))
    flip(cached(command, image.digest))
    command.run("pull", name, "--cache-dir", "cache", "-o", "second.tar")
    assert_is(command.cwd / "second.tar", image, name)
    command.run("cache", "verify", "--cache-dir", "cache")


# -- up to date -------------------------------------------------------------------------------------------


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(random.Random(1).randbytes(path.stat().st_size))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("policy", ["always", "missing"])
@pytest.mark.parametrize("change", [touched, truncated, replaced, flip, removed])
def test_an_output_that_was_changed_is_written_anew(
    command: Command, image: BuiltImage, name: str, change: Callable[[Path], None], policy: str
) -> None:
    arguments = ("pull", name, "--cache-dir", "cache", "--pull-policy", policy)
    command.run(*arguments)
    output = command.cwd / "app-1.0.tar"
    right = output.read_bytes()
    change(output)
    assert "up to date" not in command.run(*arguments).stdout
    assert output.read_bytes() == right
    assert "up to date" in command.run(*arguments).stdout


@pytest.mark.parametrize("policy", ["always", "missing"])
@pytest.mark.parametrize(
    "options",
    [
        ("--format", "docker-legacy"),
        ("--format", "oci-archive"),
        ("--keep-compressed",),
        ("--name", "local/app:x"),
        ("--no-name",),
    ],
    ids=["legacy", "oci", "compressed", "name", "no name"],
)
def test_the_same_file_asked_for_in_another_way_is_written_anew(
    command: Command, image: BuiltImage, name: str, options: tuple[str, ...], policy: str
) -> None:
    arguments = ("pull", name, "--cache-dir", "cache", "--pull-policy", policy, "-o", "app.tar")
    command.run(*arguments)
    first = (command.cwd / "app.tar").read_bytes()
    assert "up to date" not in command.run(*arguments, *options).stdout
    assert (command.cwd / "app.tar").read_bytes() != first
    command.run("verify", "app.tar")
    assert "up to date" in command.run(*arguments, *options).stdout


def test_another_platform_is_another_image(command: Command) -> None:
    from tests.standin.zoo import zoo

    index = next(image for image in zoo().values() if {"linux/amd64", "linux/arm64"} <= _platforms(image))
    serve(command.standin, {"team/multi": index})
    name = command.reference("team/multi")
    for platform in ("linux/amd64", "linux/arm64", "linux/amd64"):
        for policy, said in (("missing", False), ("missing", True), ("always", True)):
            result = command.run("pull", name, "--platform", platform, "--pull-policy", policy, "-o", "a.tar")
            assert ("up to date" in result.stdout) == said
        assert_is(command.cwd / "a.tar", index.child(platform), name)


def test_a_copy_of_the_output_elsewhere_is_not_taken_for_it(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "-o", "a.tar")
    (command.cwd / "a.tar").rename(command.cwd / "b.tar")
    assert "up to date" not in command.run("pull", name, "-o", "a.tar").stdout


# -- looking after it -------------------------------------------------------------------------------------


def test_the_cache_tells_where_and_what_it_is(command: Command, image: BuiltImage, name: str) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    info = json.loads(command.run("cache", "info", "--json", ECR_ASYNC_PULL_CACHE_DIR="cache").stdout)
    stored = distinct_blob_bytes([image]) + len(image.manifest_raw)
    assert (info["blobs"], info["size_bytes"]) == (len(image.layers) + 2, stored)
    assert command.run("cache", "path", ECR_ASYNC_PULL_CACHE_DIR="cache").stdout == "cache\n"


@pytest.mark.parametrize("action", ["info", "verify", "prune", "path"])
def test_without_a_cache_the_error_says_how_to_name_one(command: Command, action: str) -> None:
    result = command.run("cache", action, code=2)
    assert "--cache-dir" in result.stderr
    assert "ECR_ASYNC_PULL_CACHE_DIR" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("action", ["info", "verify", "prune"])
def test_looking_at_a_cache_never_makes_one(command: Command, action: str) -> None:
    command.run("cache", action, "--cache-dir", "nothing", code=6)
    assert not (command.cwd / "nothing").exists()


def test_verify_ends_with_5_for_damage_and_repair_drops_it(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    command.run("cache", "verify", "--cache-dir", "cache")
    damaged = cached(command, image.layers[0].digest)
    flip(damaged)
    assert image.layers[0].digest in command.run("cache", "verify", "--cache-dir", "cache", code=5).stderr
    assert damaged.exists()
    command.run("cache", "verify", "--cache-dir", "cache", "--repair", code=5)
    assert not damaged.exists()
    command.run("cache", "verify", "--cache-dir", "cache")


def test_prune_keeps_to_the_size_and_a_dry_run_only_tells(
    command: Command, image: BuiltImage, name: str
) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    before = json.loads(command.run("cache", "info", "--cache-dir", "cache", "--json").stdout)
    prune = ("cache", "prune", "--cache-dir", "cache", "--max-size", "1M")
    told = command.run(*prune, "--dry-run").stdout
    assert "would remove blob" in told
    assert json.loads(command.run("cache", "info", "--cache-dir", "cache", "--json").stdout) == before
    assert command.run(*prune).stdout == told.replace("would remove", "removed")
    after = json.loads(command.run("cache", "info", "--cache-dir", "cache", "--json").stdout)
    assert after["size_bytes"] <= 1024 * 1024
    command.run("pull", name, "--cache-dir", "cache", "-o", "again.tar")
    assert_is(command.cwd / "again.tar", image, name)


def test_prune_by_age_takes_what_was_not_used(command: Command, image: BuiltImage, name: str) -> None:
    command.run("pull", name, "--cache-dir", "cache")
    layer = image.layers[0]
    for path in (entry_of(command, layer.digest), cached(command, layer.digest)):
        os.utime(path, (1, 1))
    command.run("cache", "prune", "--cache-dir", "cache", "--older-than", "14d")
    assert not cached(command, layer.digest).exists()
    assert cached(command, image.layers[1].digest).exists()


def test_prune_names_and_removes_what_broken_pulls_left(
    command: Command, image: BuiltImage, name: str
) -> None:
    left = command.cwd / ".ecr-async-pull-0123456789abcdef"
    (left / "blobs").mkdir(parents=True)
    left.chmod(0o700)
    (left / "lock").touch()
    (left / "blobs" / "sha256-00").write_bytes(bytes(5000))
    told = command.run("cache", "prune", "--staging", ".", "--dry-run").stdout
    assert "would remove .ecr-async-pull-0123456789abcdef" in told
    assert left.exists()
    command.run("cache", "prune", "--staging", ".", "--older-than", "1d", "--cache-dir", "cache", code=6)
    (command.cwd / "cache").mkdir()
    command.run("cache", "prune", "--staging", ".", "--older-than", "1d", "--cache-dir", "cache")
    assert left.exists()
    command.run("cache", "prune", "--staging", ".")
    assert not left.exists()


@pytest.mark.parametrize("limit", [("--max-size", "ten"), ("--older-than", "14")])
def test_a_limit_that_is_none_is_a_usage_error(command: Command, limit: tuple[str, str]) -> None:
    command.run("cache", "prune", "--cache-dir", "cache", *limit, code=2)


@pytest.mark.interop
def test_skopeo_reads_what_a_pull_left_in_the_cache(command: Command) -> None:
    image = ImageBuilder(oci=True).add(random_layer(1, 3_000_000, oci=True)).build()
    serve(command.standin, {"team/oci": image})
    command.run("pull", command.reference("team/oci"), "--cache-dir", "cache")
    layout = command.cwd / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest_raw)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    copy = ["skopeo", "--insecure-policy", "copy", "--src-shared-blob-dir", "cache/blobs"]
    result = subprocess.run(
        [*copy, "oci:layout:1", "dir:out"],
        cwd=command.cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for layer in image.layers:
        stored = command.cwd / "out" / layer.digest.removeprefix("sha256:")
        assert stored.read_bytes() == layer.stored()


def _platforms(image: BuiltImage) -> set[str]:
    return {child.platform for child in image.children if child.platform}

"""Many images at once: what comes over the wire, what one's failure does to the others, and shards."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.standin.faults import Slow, Status
from tests.standin.images import ImageBuilder
from tests.standin.server import StandIn

from .command import Command, assert_is, distinct_blob_bytes, family, random_layer, serve

FORMATS = {
    "docker-archive": (),
    "docker-archive compressed": ("--keep-compressed",),
    "docker-legacy": ("--format", "docker-legacy"),
    "oci-archive": ("--format", "oci-archive"),
    "oci directory": ("--format", "oci"),
}


@pytest.fixture
def command(standin: StandIn, standin_environment: dict[str, str], tmp_path: Path) -> Command:
    cwd = tmp_path / "work"
    cwd.mkdir()
    return Command(standin=standin, environment=standin_environment, cwd=cwd)


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- what comes over the wire -----------------------------------------------------------------------------


@pytest.mark.parametrize("has_cache", [False, True], ids=["without a cache", "with a cache"])
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_ten_images_that_share_a_base_cost_their_distinct_blobs_exactly(
    command: Command, options: tuple[str, ...], *, has_cache: bool
) -> None:
    images = family(10)
    serve(command.standin, images)
    (command.cwd / "images.txt").write_text("\n".join(map(command.reference, images)))
    cache = ("--cache-dir", command.cwd / "cache") if has_cache else ()
    command.run("pull", "-f", "images.txt", *options, *cache)
    assert command.standin.log.blob_bytes == distinct_blob_bytes(images.values())
    assert command.standin.log.distinct_blob_bytes == command.standin.log.blob_bytes
    for repository in images:
        stem = f"{repository.rpartition('/')[2]}-1.0"
        output = command.cwd / (stem if "oci" in options else f"{stem}.tar")
        command.run("verify", output)


def test_one_archive_of_all_images_holds_them_all_and_costs_their_distinct_blobs(command: Command) -> None:
    images = family(4)
    serve(command.standin, images)
    command.run("pull", *map(command.reference, images), "-o", "all.tar")
    assert command.standin.log.blob_bytes == distinct_blob_bytes(images.values())
    with tarfile.open(command.cwd / "all.tar") as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        entries = json.loads(member.read())
    assert [entry["RepoTags"] for entry in entries] == [[command.reference(one)] for one in images]


def test_an_oci_directory_takes_all_images_and_is_up_to_date_the_next_time(command: Command) -> None:
    images = family(3)
    serve(command.standin, images)
    arguments = ("pull", *map(command.reference, images), "--format", "oci", "-o", "layout")
    command.run(*arguments)
    index = json.loads((command.cwd / "layout" / "index.json").read_text())
    assert len(index["manifests"]) == 3
    command.run("verify", "layout")
    command.standin.log.clear()
    again = command.run(*arguments)
    assert again.stdout.count("up to date") == 3
    assert command.standin.log.blob_bytes == sum(len(image.config_raw) for image in images.values())


# -- lists ------------------------------------------------------------------------------------------------


def test_a_list_names_outputs_platforms_and_names(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    first, second = map(command.reference, images)
    (command.cwd / "out").mkdir()
    (command.cwd / "images.txt").write_text(
        f"# what the build needs\n\n  {first} output=one.tar name=local/one:a name=local/one:b  # two names\n"
        f"{second} platform=linux/amd64\n{second}   platform=linux/amd64\n"
    )
    command.run("pull", "-f", "images.txt", "-o", "out/")
    assert listing(command.cwd / "out") == ["app1-1.0.tar", "one.tar"]
    with tarfile.open(command.cwd / "out" / "one.tar") as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        assert json.loads(member.read())[0]["RepoTags"] == ["local/one:a", "local/one:b"]


def test_standard_input_is_a_list_beside_references_and_repeated_images_are_one(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    first, second = map(command.reference, images)
    result = command.run("pull", first, "-f", "-", stdin=f"{second}\r\n{first}\n")
    assert listing(command.cwd) == ["app0-1.0.tar", "app1-1.0.tar"]
    assert len(result.stdout.splitlines()) == 1 + 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not//a reference", "line 2: "),
        ("example.com/a:1 colour=red", "line 2: 'colour=red' is no option"),
        ("example.com/a:1 output=", "line 2: 'output=' is no option"),
        ("example.com/a:1 output=a output=b", "line 2: output= is given twice"),
        ("example.com/a:1 platform=amd64", "line 2: invalid platform"),
        ("example.com/a:1 name=A:b", "line 2: name A:b"),
    ],
)
def test_what_is_wrong_in_a_list_is_told_by_file_and_line_before_anything_is_asked(
    command: Command, line: str, said: str
) -> None:
    (command.cwd / "images.txt").write_text(f"# fine\n{line}\n")
    result = command.run("pull", "-f", "images.txt", code=2)
    assert f"images.txt, {said}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not command.standin.requests


def test_an_empty_list_is_an_error(command: Command) -> None:
    assert "no image is named" in command.run("pull", "-f", "-", stdin="# nothing\n", code=2).stderr


# -- failures ---------------------------------------------------------------------------------------------


def test_one_images_failure_does_not_stop_the_others(command: Command) -> None:
    images = family(3)
    serve(command.standin, images)
    broken = images["team/app1"].layers[-1]
    command.standin.faults.add(Status(404), server="registry", digest=broken.digest)
    names = [*map(command.reference, images), command.reference("team/nothing")]
    result = command.run("pull", *names, code=4)
    assert listing(command.cwd) == ["app0-1.0.tar", "app2-1.0.tar"]
    for repository in ("team/app0", "team/app2"):
        path = command.cwd / f"{repository.rpartition('/')[2]}-1.0.tar"
        assert_is(path, images[repository], command.reference(repository))
    results = [line.split()[-1] for line in result.stdout.splitlines()[1:]]
    assert results == ["pulled", "failed", "pulled", "failed"]
    assert [line for line in result.stderr.splitlines() if line.startswith("ecr-async-pull: ")] == [
        line for line in result.stderr.splitlines() if names[1] in line or names[3] in line
    ][-2:]


def test_an_output_that_cannot_be_written_does_not_stop_the_others(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    first, second = map(command.reference, images)
    command.run("pull", "-f", "-", stdin=f"{first} output=missing/a.tar\n{second}\n", code=6)
    assert listing(command.cwd) == ["app1-1.0.tar"]


def test_a_failing_image_fails_the_archive_that_it_belongs_to(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    names = [*map(command.reference, images), command.reference("team/nothing")]
    command.run("pull", *names, "-o", "all.tar", code=4)
    assert listing(command.cwd) == []


def test_fail_fast_stops_what_is_under_way(command: Command) -> None:
    quick = ImageBuilder().add(random_layer(1, 50_000)).build()
    slow = ImageBuilder().add(random_layer(2, 40_000_000)).build()
    serve(command.standin, {"team/quick": quick, "team/slow": slow})
    command.standin.faults.add(Slow(2_000_000), server="storage", digest=slow.layers[0].digest)
    command.standin.faults.add(Status(404), server="registry", digest=quick.layers[0].digest)
    names = [command.reference("team/slow"), command.reference("team/quick")]
    result = command.run("pull", *names, "--fail-fast", code=4)
    assert "--fail-fast" in result.stderr
    assert command.standin.log.blob_bytes < 30_000_000
    assert listing(command.cwd) == []


def test_fail_fast_asks_for_no_blob_when_an_image_is_missing(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    names = [command.reference("team/nothing"), *map(command.reference, images)]
    command.run("pull", *names, "--fail-fast", code=4)
    assert command.layer_bytes(images.values()) == 0
    assert listing(command.cwd) == []


# -- what it would cost -----------------------------------------------------------------------------------


def test_du_tells_what_is_shared_and_fetches_no_layer(command: Command) -> None:
    images = family(3)
    serve(command.standin, images)
    found = json.loads(command.run("du", *map(command.reference, images), "--json").stdout)
    layers = {layer.digest: layer.size_bytes for image in images.values() for layer in image.layers}
    base = {layer.digest for layer in images["team/app0"].layers[:2]}
    assert found["distinct_bytes"] == found["fetch_bytes"] == sum(layers.values())
    assert found["size_bytes"] == sum(layer.size_bytes for image in images.values() for layer in image.layers)
    for one, image in zip(found["images"], images.values(), strict=True):
        assert one["manifest_digest"] == image.digest
        assert [layer["digest"] for layer in one["layers"]] == [layer.digest for layer in image.layers]
        assert [layer["images"] for layer in one["layers"]] == [3, 3, 1]
        assert one["shared_bytes"] == sum(layers[digest] for digest in base)
    assert [len([layer for layer in one["layers"] if layer["is_fetched"]]) for one in found["images"]] == [
        3,
        1,
        1,
    ]
    assert command.layer_bytes(images.values()) == 0


def test_what_du_and_the_dry_run_foretell_is_what_a_pull_fetches(command: Command) -> None:
    images = family(4)
    serve(command.standin, images)
    names = [command.reference(one) for one in images]
    cache = ("--cache-dir", command.cwd / "cache")
    command.run("pull", names[0], *cache)
    foretold = json.loads(command.run("pull", *names, *cache, "--dry-run", "--json").stdout)
    du = json.loads(command.run("du", *names, *cache, "--json").stdout)
    assert listing(command.cwd) == ["app0-1.0.tar", "cache"]
    assert [one["is_up_to_date"] for one in foretold["images"]] == [True, False, False, False]
    command.standin.log.clear()
    command.run("pull", *names, *cache)
    assert command.layer_bytes(images.values()) == foretold["fetch_bytes"] == du["fetch_bytes"] > 0
    assert foretold["here_bytes"] == sum(layer.size_bytes for layer in images["team/app0"].layers)


def test_du_goes_on_when_an_image_is_missing(command: Command) -> None:
    images = family(1)
    serve(command.standin, images)
    names = [command.reference("team/nothing"), *map(command.reference, images)]
    result = command.run("du", *names, code=4)
    assert images["team/app0"].digest in result.stdout
    assert names[0] in result.stderr


# -- digests ----------------------------------------------------------------------------------------------


def test_digest_prints_what_each_tag_names_by_one_request_without_a_body(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    result = command.run("digest", *map(command.reference, images))
    assert result.stdout.splitlines() == [image.digest for image in images.values()]
    assert [
        (each.method, each.bytes_sent) for each in command.standin.requests if each.server == "registry"
    ] == [
        ("HEAD", 0),
        ("HEAD", 0),
    ]


def test_digest_prints_the_index_or_the_manifest_of_a_platform(command: Command) -> None:
    from tests.standin.zoo import zoo

    index = next(image for image in zoo().values() if len(image.children) > 1 and image.children[0].platform)
    serve(command.standin, {"team/multi": index})
    name = command.reference("team/multi")
    child = index.children[0]
    assert command.run("digest", name).stdout.strip() == index.digest
    assert command.run("digest", name, "--platform", child.platform).stdout.strip() == child.digest


def test_digest_of_a_missing_tag_fails_and_prints_the_others(command: Command) -> None:
    images = family(1)
    serve(command.standin, images)
    result = command.run("digest", command.reference("team/nothing"), *map(command.reference, images), code=4)
    assert result.stdout.splitlines() == [images["team/app0"].digest]


# -- shards -----------------------------------------------------------------------------------------------


def test_shards_together_pull_each_image_exactly_once_in_balance(command: Command) -> None:
    images = family(6, own_bytes=400_000) | {
        f"other/app{number}": ImageBuilder().add(random_layer(500 + number, 900_000)).build()
        for number in range(6)
    }
    serve(command.standin, images)
    lines = [f"{command.reference(one)} output={one.replace('/', '-')}.tar" for one in images]
    count = 3
    pulled: list[str] = []
    bytes_of_shards = []
    for index in range(count):
        out = command.cwd / f"out{index}"
        out.mkdir()
        order = lines[index:] + lines[:index]
        command.standin.log.clear()
        command.run("pull", "-f", "-", "-o", f"{out}/", "--shard", f"{index}/{count}", stdin="\n".join(order))
        pulled += listing(out)
        bytes_of_shards.append(command.layer_bytes(images.values()))
    assert sorted(pulled) == sorted(f"{one.replace('/', '-')}.tar" for one in images)
    assert max(bytes_of_shards) < 1.5 * sum(bytes_of_shards) / count


def test_workers_that_run_at_once_divide_the_images_among_them(command: Command) -> None:
    images = family(8)
    serve(command.standin, images)
    names = [command.reference(one) for one in images]
    workers = [
        command.start("pull", *names, "-o", f"{_made(command.cwd / f'out{index}')}/", "--shard", "auto/4",
                      JOB_COMPLETION_INDEX=str(index))
        for index in range(4)
    ]  # fmt: skip
    for worker in workers:
        _, stderr = worker.communicate(timeout=100)
        assert worker.returncode == 0, stderr
    pulled = [name for index in range(4) for name in listing(command.cwd / f"out{index}")]
    assert sorted(pulled) == [f"app{number}-1.0.tar" for number in range(8)]


def test_aws_batch_tells_index_and_count(command: Command) -> None:
    images = family(2)
    serve(command.standin, images)
    shares = [
        json.loads(
            command.run(
                "pull", *map(command.reference, images), "--dry-run", "--json", "--shard", "auto",
                AWS_BATCH_JOB_ARRAY_INDEX=str(index), AWS_BATCH_JOB_ARRAY_SIZE="2",
            ).stdout
        )["images"]
        for index in range(2)
    ]  # fmt: skip
    assert sorted(one["reference"] for share in shares for one in share) == [
        command.reference(one) for one in images
    ]
    assert command.layer_bytes(images.values()) == 0


def test_a_worker_without_a_share_has_done_its_work(command: Command) -> None:
    images = family(1)
    serve(command.standin, images)
    codes = [
        command.run("pull", *map(command.reference, images), "--shard", f"{index}/2").returncode
        for index in range(2)
    ]
    assert codes == [0, 0]
    assert listing(command.cwd) == ["app0-1.0.tar"]


def test_a_missing_image_is_one_workers_to_report(command: Command) -> None:
    images = family(3)
    serve(command.standin, images)
    names = [command.reference("team/nothing"), *map(command.reference, images)]
    told = []
    for index in range(2):
        with command.start("pull", *names, "--shard", f"{index}/2") as process:
            process.communicate(timeout=100)
            told.append(process.returncode)
    assert sorted(told) == [0, 4]
    assert listing(command.cwd) == [f"app{number}-1.0.tar" for number in range(3)]


@pytest.mark.parametrize("shard", ["3/3", "auto", "auto/2", "/2", "1", "a/b"])
def test_a_shard_that_cannot_be_is_refused_before_anything_is_asked(command: Command, shard: str) -> None:
    result = command.run("pull", command.reference("a"), "--shard", shard, code=2)
    assert "shard" in result.stderr
    assert not command.standin.requests


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory

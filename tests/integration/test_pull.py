"""Through the public coroutine: every format over every animal, and what makes two runs the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import tarfile
import threading
import warnings
from pathlib import Path

import pytest

from ecr_async_pull.archive.verify import verify
from ecr_async_pull.errors import PlatformError, PullError, UnsupportedImageError, UsageError
from ecr_async_pull.orchestrator.pull import pull
from ecr_async_pull.orchestrator.request import Outcome
from tests.pulling import EVERY_FORMAT, Site, prove_any, tree_digest
from tests.standin import faults
from tests.standin.images import ImageBuilder, make_layer
from tests.standin.zoo import loadable, zoo


@EVERY_FORMAT
def test_every_animal_becomes_an_archive_that_holds_what_was_served(site: Site, form: str) -> None:
    animals = loadable()
    references = {name: site.add(image, repository=f"zoo/{name}") for name, image in animals.items()}
    outputs = [site.output(reference, path=name) for name, reference in references.items()]
    report = site.pull_all(outputs, site.settings(form))
    assert {one.request.label: str(one.error) for one in report.results if one.error is not None} == {}
    for (name, image), result in zip(animals.items(), report.results, strict=True):
        path = site.directory / name
        if name != "mis-cased-keys":  # which only Go's decoder reads
            prove_any(path, form, image, name=references[name])
        checked = verify(path)
        assert checked.is_right, (name, checked.findings)
        assert [one.image_id for one in result.images] == [image.config_digest]
    assert site.left() == set(animals)
    for digest in {layer.digest for image in animals.values() for layer in image.layers}:
        assert len(site.standin.log.of("storage", digest=digest)) <= 1


@pytest.mark.parametrize("name", ["helm-chart", "artifact", "schema1"])
def test_what_is_no_image_is_refused_before_a_layer_is_asked_for(site: Site, name: str) -> None:
    with pytest.raises(UnsupportedImageError):
        site.pull(site.add(zoo()[name]))
    assert site.left() == set()


@EVERY_FORMAT
def test_two_runs_have_the_same_bytes_whatever_the_concurrency_timing_or_umask(site: Site, form: str) -> None:
    builder = ImageBuilder(oci=True)
    for number in range(6):
        builder.layer([(f"f{number}", random.Random(number).randbytes(1_300_000 if number < 2 else 5000))])
    builder.layer([("z", b"streamed " * 9000)], compression="zstd").layer(
        [("p", b"plain")], compression="none"
    )
    reference = site.add(builder.build())
    digests = set()
    for number, (connections, workers, umask) in enumerate(((1, 1, 0o077), (16, 4, 0o022), (3, 2, 0o000))):
        if number == 1:
            site.standin.faults.add(faults.Delay(0.05), server="storage", probability=0.5, seed=3)
            site.standin.faults.add(faults.Reset(3000), server="storage", times=2)
        before = os.umask(umask)
        try:
            transfer = {"max_connections": connections, "max_workers": workers}
            site.pull(reference, form, path=f"out{number}", transfer=transfer)
        finally:
            os.umask(before)
        path = site.directory / f"out{number}"
        digests.add(tree_digest(path))
        for one in [path, *path.rglob("*")]:
            wanted = (0o777 if one.is_dir() else 0o666) & ~umask
            assert one.stat().st_mode & 0o777 == wanted, one
    assert len(digests) == 1


@pytest.mark.parametrize("form", ["docker-archive", "docker-legacy", "oci-archive", "oci"])
def test_several_images_in_one_output_share_their_layers(site: Site, form: str) -> None:
    base = make_layer([("base", b"base " * 5000)])
    images = [ImageBuilder().add(base).layer([(f"own{n}", b"%d" % n * 999)]).build() for n in range(3)]
    references = [site.add(image) for image in images]
    if form == "oci":
        outputs = [site.output(reference) for reference in references]
    else:
        outputs = [site.output(*references)]
    settings = site.settings(form)
    reports = [site.pull_all([one], settings) for one in outputs]
    assert [report.exit_code for report in reports] == [0] * len(outputs)
    checked = verify(site.directory / "out")
    assert checked.is_right, checked.findings
    assert sorted(one.image_id for one in checked.images) == sorted(one.config_digest for one in images)
    assert len(site.standin.log.of("storage", digest=base.digest)) == 1
    assert site.left() == {"out"}


def test_a_directory_lists_a_runs_images_in_the_order_of_the_command(site: Site) -> None:
    images = [ImageBuilder(oci=True).layer([(f"own{n}", b"%d" % n * 999)]).build() for n in range(3)]
    references = [site.add(image, repository=f"team/app{n}") for n, image in enumerate(images)]
    trees = set()
    for run, slow in enumerate((0, 2)):
        digest = images[slow].layers[0].digest
        site.standin.faults.add(faults.Delay(0.4), server="storage", digest=digest, times=1)
        outputs = [site.output(reference, path=f"out{run}") for reference in references]
        assert site.pull_all(outputs, site.settings("oci")).exit_code == 0
        index = json.loads((site.directory / f"out{run}" / "index.json").read_text())
        assert [entry["digest"] for entry in index["manifests"]] == [each.digest for each in images]
        trees.add(tree_digest(site.directory / f"out{run}"))
    assert len(trees) == 1


def test_two_references_to_one_image_are_one_image_with_two_names(site: Site) -> None:
    image = ImageBuilder().layer([("a", b"a" * 2000)]).build()
    references = [site.add(image, repository="team/one"), site.add(image, repository="team/two")]
    report = site.pull_all([site.output(*references)], site.settings())
    assert report.exit_code == 0
    checked = verify(site.directory / "out")
    assert checked.is_right, checked.findings
    assert sorted(name for one in checked.images for name in one.names) == sorted(references)


def test_an_output_that_two_images_would_be_written_to_is_refused(site: Site) -> None:
    one, other = (site.add(ImageBuilder().layer([("a", b"%d" % n)]).build()) for n in range(2))
    with pytest.raises(UsageError, match="would both be written"):
        site.pull_all([site.output(one), site.output(other)], site.settings())


def test_one_failure_does_not_stop_the_others(site: Site) -> None:
    images = [ImageBuilder().layer([("a", b"%d" % n * 4000)]).build() for n in range(3)]
    references = [site.add(image) for image in images]
    site.standin.faults.add(faults.Flip(60), server="storage", digest=images[1].layers[0].digest)
    outputs = [site.output(one, path=f"o{n}") for n, one in enumerate(references)]
    outputs.append(site.output(references[0].replace(":1.0", ":gone"), path="o3"))
    report = site.pull_all(outputs, site.settings())
    assert [one.outcome for one in report.results] == [
        Outcome.PULLED, Outcome.FAILED, Outcome.PULLED, Outcome.FAILED,
    ]  # fmt: skip
    assert report.exit_code == 5
    assert site.left() == {"o0", "o2"}


def test_a_missing_platform_is_named_with_those_that_there_are(site: Site) -> None:
    reference = site.add(zoo()["manifest-list"])
    report = site.pull_all([site.output(reference, platform="linux/s390x")], site.settings())
    error = report.results[0].error
    assert isinstance(error, PlatformError)
    assert error.available == ("linux/amd64", "linux/arm/v7", "linux/arm64/v8", "linux/386")
    assert all(one in str(error) for one in error.available)
    assert site.left() == set()


@pytest.mark.parametrize("animal", ["two-platforms", "nested-index"])
def test_the_wanted_platform_of_an_index_is_what_is_written(site: Site, animal: str) -> None:
    index = zoo()[animal]
    reference = site.add(index)
    inner = index.children[0] if animal == "nested-index" else index
    wanted = inner.child("linux/arm64")
    report = site.pull_all([site.output(reference, platform="linux/arm64")], site.settings())
    assert report.exit_code == 0
    prove_any(site.directory / "out", "docker-archive", wanted, name=reference)


@EVERY_FORMAT
@pytest.mark.parametrize("kind", ["digest", "tag+digest"])
def test_a_digest_reference_gives_a_name_that_engines_take(site: Site, form: str, kind: str) -> None:
    image = ImageBuilder().layer([("a", b"a" * 2000)]).build()
    repository = site.add(image, repository=f"team/{form}").rpartition(":")[0]
    reference = f"{repository}{':1.0' if kind == 'tag+digest' else ''}@{image.digest}"
    site.pull(reference, form)
    name = f"{repository}:1.0" if kind == "tag+digest" else f"{repository}:{image.digest[7:]}"
    prove_any(site.directory / "out", form, image, name=name)


def test_names_replace_the_references_own(site: Site) -> None:
    image = ImageBuilder().layer([("a", b"a" * 2000)]).build()
    reference = site.add(image)
    for names in ((), ("one:1", "two/three:4")):
        path = f"out{len(names)}"
        report = site.pull_all([site.output(reference, path=path, names=names)], site.settings())
        assert report.exit_code == 0
        with tarfile.open(site.directory / path) as tar:
            file = tar.extractfile("manifest.json")
            assert file is not None
            assert (json.load(file)[0]["RepoTags"] or []) == list(names)


@EVERY_FORMAT
def test_bytes_on_the_wire_are_those_of_the_distinct_blobs_and_each_is_located_once(
    site: Site, form: str
) -> None:
    big = random.Random(5).randbytes(3_500_000)
    builder = (
        ImageBuilder().layer([("big", big)]).layer([("small", b"small")]).layer([("other", big[:90_000])])
    )
    image = builder.add(builder.layers[1], builder.layers[0]).build()
    reference = site.add(image)
    site.pull(reference, form)
    log = site.standin.log
    config_bytes = len(image.config_raw)
    assert log.blob_bytes == sum(layer.size_bytes for layer in builder.layers[:3]) + config_bytes
    for layer in builder.layers[:3]:
        assert len(log.of("registry", digest=layer.digest)) == 1
        requests = log.of("storage", digest=layer.digest)
        assert len(requests) == 1 if layer.size_bytes <= 1 << 20 else len(requests) <= 5
        assert not any(one.has_authorization for one in requests)
    assert len(log.of("registry", digest=image.digest)) == 1


def test_the_same_command_again_asks_for_the_manifest_alone(site: Site) -> None:
    reference = site.add(ImageBuilder().layer([("a", b"a" * 2000)]).build())
    settings = site.settings(state_dir=site.home / "state")
    site.pull_all([site.output(reference)], settings)
    inode = (site.directory / "out").stat().st_ino
    site.standin.log.clear()
    report = site.pull_all([site.output(reference)], settings)
    assert report.results[0].outcome is Outcome.UP_TO_DATE
    assert len(site.standin.requests) <= 3  # the manifest, and the config where no cache keeps it
    assert (site.directory / "out").stat().st_ino == inode


def test_an_output_that_was_touched_is_written_again(site: Site) -> None:
    image = ImageBuilder().layer([("a", b"a" * 2000)]).build()
    reference = site.add(image)
    settings = site.settings(state_dir=site.home / "state")
    site.pull_all([site.output(reference)], settings)
    with (site.directory / "out").open("r+b") as file:
        file.write(b"X")
    report = site.pull_all([site.output(reference)], settings)
    assert report.results[0].outcome is Outcome.PULLED
    prove_any(site.directory / "out", "docker-archive", image, name=reference)


@EVERY_FORMAT
@pytest.mark.timeout(60)
def test_more_layers_than_workers_and_connections_do_not_wait_for_one_another(site: Site, form: str) -> None:
    builder = ImageBuilder()
    for number in range(40):
        size = 1_200_000 if number in (0, 20) else 3000
        builder.layer([(f"{number}", random.Random(number).randbytes(size))])
    image = builder.build()
    reference = site.add(image)
    site.pull(reference, form, transfer={"max_connections": 1, "max_workers": 1})
    prove_any(site.directory / "out", form, image, name=reference)
    assert site.standin.log.peak_in_flight["storage"] <= 1


@pytest.mark.timeout(60)
def test_layers_of_unknown_size_do_not_wait_for_one_another_either(site: Site) -> None:
    builder = ImageBuilder(oci=True)
    for number in range(12):
        data = random.Random(number).randbytes(1_200_000 if number == 3 else 4000)
        builder.layer([(f"{number}", data)], compression="bzip2" if number % 2 else "xz")
    image = builder.layer([("m", b"members " * 9000)], members=5).build()
    reference = site.add(image)
    site.pull(reference, transfer={"max_connections": 1, "max_workers": 1})
    prove_any(site.directory / "out", "docker-archive", image, name=reference)


@EVERY_FORMAT
@pytest.mark.timeout(60)
def test_cancelled_at_any_moment_it_leaves_no_file_and_no_thread(site: Site, form: str) -> None:
    builder = ImageBuilder()
    for number in range(4):
        builder.layer([(f"{number}", random.Random(number).randbytes(1_500_000))])
    reference = site.add(builder.build())
    site.pull(reference, form, path="whole")
    threads = set(threading.enumerate())
    settings = site.settings(form)

    async def run(steps: int) -> bool:
        """Cancel after so many turns of the loop; whether it had ended before."""
        call = pull([site.output(reference)], settings, environment=os.environ)
        task = asyncio.ensure_future(call)
        for _ in range(steps):
            await asyncio.sleep(0.001)
            if task.done():
                break
        is_done = task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return is_done

    numbers = random.Random(form)
    finished = 0
    for _ in range(8):
        finished += asyncio.run(run(numbers.randrange(1, 140)))
        assert site.left() - {"out"} == {"whole"}
        for thread in set(threading.enumerate()) - threads:
            thread.join(1)  # idle ones that were told to end
        assert set(threading.enumerate()) - threads == set()
        if (site.directory / "out").exists():
            assert tree_digest(site.directory / "out") == tree_digest(site.directory / "whole")
    assert finished < 8
    with warnings.catch_warnings():
        # aiohttp leaves a tunnel whose TLS handshake was cancelled to the collector: collect it here.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_an_old_file_outlives_any_failure_and_is_replaced_whole(site: Site) -> None:
    image = ImageBuilder().layer([("a", random.Random(1).randbytes(2_000_000))]).build()
    reference = site.add(image)
    (site.directory / "out").write_bytes(b"old")
    layer = image.layers[0]
    for action in (faults.Flip(1_000_000), faults.Status(404), faults.Status(403)):
        rule = site.standin.faults.add(action, server="storage", digest=layer.digest)
        with pytest.raises(PullError):
            site.pull(reference)
        assert rule.fired
        site.standin.faults.clear()
        assert (site.directory / "out").read_bytes() == b"old"
        assert site.left() == {"out"}
    site.pull(reference)
    prove_any(site.directory / "out", "docker-archive", image, name=reference)


def test_a_link_as_output_leads_to_what_is_replaced(site: Site, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (site.directory / "out").symlink_to(tmp_path / "real")
    image = ImageBuilder().layer([("a", b"a" * 2000)]).build()
    reference = site.add(image)
    site.pull(reference)
    assert (site.directory / "out").is_symlink()
    prove_any(tmp_path / "real", "docker-archive", image, name=reference)
    assert not [one for one in os.listdir(tmp_path) if one.startswith(".ecr")]

"""What is fetched of the layers while the config is still on its way, and when nothing may be."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.pulling import EVERY_FORMAT, Site
from tests.standin import faults
from tests.standin.access_log import Request
from tests.standin.images import BuiltImage, ImageBuilder

_SMALL = 3
_LARGE_BYTES = 1_500_000


def _image(*, seed: int = 0) -> BuiltImage:
    """Three small layers and one that is more than one small request."""
    builder = ImageBuilder()
    for number in range(_SMALL):
        builder.layer([(f"small{number}", random.Random(seed + number).randbytes(3000))])
    return builder.layer([("large", random.Random(seed).randbytes(_LARGE_BYTES))]).build()


def _stored_bytes(image: BuiltImage) -> int:
    return sum(layer.size_bytes for layer in image.layers)


def _before_the_config(site: Site, image: BuiltImage) -> list[Request]:
    """The requests to storage hosts that came before the config's bytes went out."""
    (config,) = site.standin.log.of("storage", digest=image.config_digest)
    assert config.ended_s is not None
    return [each for each in site.standin.log.of("storage") if each.at_s < config.ended_s and each != config]


def _delay_config(site: Site, image: BuiltImage) -> None:
    site.standin.faults.add(faults.Delay(0.5), server="storage", digest=image.config_digest)


@EVERY_FORMAT
def test_small_layers_and_what_tells_a_size_come_before_the_config(site: Site, form: str) -> None:
    image = _image()
    _delay_config(site, image)
    site.pull(site.add(image), form)
    early = _before_the_config(site, image)
    *small, large = image.layers
    assert {each.digest for each in small} <= {each.digest for each in early}
    tail = [each.range for each in early if each.digest == large.digest]
    if form in ("docker-archive", "docker-legacy"):
        assert tail == [(large.size_bytes - 16384, large.size_bytes - 1)]
    else:
        assert tail == []
    log = site.standin.log
    assert log.blob_bytes == log.distinct_blob_bytes == _stored_bytes(image) + len(image.config_raw)


def test_a_failure_ahead_of_need_is_made_up_for(site: Site) -> None:
    image = _image()
    _delay_config(site, image)
    wrongs: tuple[faults.Action, ...] = (
        faults.Status(500),
        faults.Short(9),
        faults.Reset(None),
        faults.IgnoreRange(),
    )
    for layer, wrong in zip(image.layers, wrongs, strict=True):
        site.standin.faults.add(wrong, server="storage", digest=layer.digest, times=1)
    site.pull(site.add(image))


def test_an_ahead_request_that_hangs_is_cut_and_made_again(site: Site) -> None:
    image = _image()
    site.standin.faults.add(faults.Stall(5), server="storage", digest=image.layers[0].digest, times=1)
    site.pull(site.add(image), transfer={"idle_timeout_s": 1.0})


@pytest.mark.parametrize("why", ["cache", "rate", "staging", "directory"])
def test_nothing_is_fetched_ahead_that_may_be_here(site: Site, why: str) -> None:
    """Another process may be fetching it into the cache, or a broken run may have left it."""
    image = _image()
    reference = site.add(image)
    form = "oci" if why == "directory" else "docker-archive"
    changes_of: dict[str, dict[str, Any]] = {
        "cache": {"cache_dir": site.directory / "cache"},
        "rate": {"transfer": {"limit_rate_bytes_s": 50_000_000}},
    }
    if why == "staging":
        rule = site.standin.faults.add(faults.Reset(), server="storage", digest=image.layers[0].digest)
        report = site.pull_all([site.output(reference)], site.settings(transfer={"attempts": 1}))
        assert report.exit_code == 4
        site.standin.faults.rules.remove(rule)
    if why == "directory":
        site.pull(site.add(_image(seed=7)), form)
    site.standin.log.clear()
    _delay_config(site, image)
    site.pull(reference, form, **changes_of.get(why, {}))
    assert _before_the_config(site, image) == []
    located = [each for each in site.standin.log.of("registry") if "/blobs/" in each.path]
    assert {each.digest for each in image.layers} <= {each.digest for each in located}


def test_one_layer_of_two_repositories_is_fetched_ahead_once(site: Site) -> None:
    image = _image()
    references = [site.add(image, repository="team/one"), site.add(image, repository="team/two")]
    assert site.pull_all([site.output(*references)], site.settings()).exit_code == 0
    requests = site.standin.log.of("storage")
    sent = sum(each.bytes_sent for each in requests if each.digest != image.config_digest)
    assert sent == _stored_bytes(image)


@pytest.mark.parametrize("most", [1, 2])
def test_what_is_fetched_ahead_counts_among_the_connections(site: Site, most: int) -> None:
    builder = ImageBuilder()
    for number in range(6):
        size_bytes = (200_000, 3000)[number % 2]  # one that isn't fetched ahead, one that is
        builder.layer([(f"file{number}", random.Random(number).randbytes(size_bytes))])
    image = builder.build()
    for layer in image.layers:
        site.standin.faults.add(faults.Delay(0.2), server="storage", digest=layer.digest)
    site.pull(site.add(image), transfer={"max_connections": most})
    requests = [each for each in site.standin.log.of("storage") if each.digest != image.config_digest]
    assert len(requests) == len(image.layers)
    assert max(_under_way_with(each, requests) for each in requests) == most


def _under_way_with(one: Request, requests: list[Request]) -> int:
    """How many requests, this one among them, were under way when it came."""
    return sum(each.at_s <= one.at_s < (each.ended_s or one.at_s + 1) for each in requests)

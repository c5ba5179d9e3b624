"""Every fault of a storage host or registry during a pull: survived where it may pass, else told."""

from __future__ import annotations

import random
import time

import pytest

from ecr_async_pull.errors import AuthError, IntegrityError, NotFoundError, RegistryError, TransientError
from tests.pulling import EVERY_FORMAT, Site, prove_any
from tests.standin import faults
from tests.standin.access_log import Server
from tests.standin.faults import Action
from tests.standin.images import BuiltImage, ImageBuilder

MIB = 1 << 20


def large(*, seed: int = 1, size: int = 3_600_000) -> BuiltImage:
    """One layer of several ranges, one of a single request."""
    builder = ImageBuilder().layer([("big", random.Random(seed).randbytes(size))], level=1)
    return builder.layer([("small", b"small" * 400)]).build()


def assert_pulled(site: Site, image: BuiltImage, reference: str, form: str = "docker-archive") -> None:
    prove_any(site.directory / "out", form, image, name=reference)
    assert site.left() == {"out"}


PASSING: dict[str, Action] = {
    "a reset before any answer": faults.Reset(None),
    "a reset at once": faults.Reset(0),
    "a reset on the way": faults.Reset(70_000),
    "a short body": faults.Short(300_000),
    "an empty body": faults.Short(0),
    "408": faults.Status(408),
    "429": faults.Status(429),
    "429 that says when": faults.Status(429, retry_after="0"),
    "500": faults.Status(500),
    "502 in no words at all": faults.Status(502, body=b""),
    "503 SlowDown": faults.Status(503),
    "503 that says when": faults.Status(503, retry_after="0.1"),
    "a Content-Range a byte off": faults.WrongContentRange(1),
    "a Content-Range a byte back": faults.WrongContentRange(-1),
}


@pytest.mark.parametrize(
    ("name", "server"),
    [(name, "storage") for name in PASSING]
    + [(name, "registry") for name in PASSING if "Content-Range" not in name],
)
def test_what_passes_is_survived(site: Site, name: str, server: Server) -> None:
    image = large()
    reference = site.add(image)
    path = "/blobs/" if server == "registry" else None
    rule = site.standin.faults.add(PASSING[name], server=server, path=path, times=2)
    site.pull(reference)
    assert rule.fired
    assert_pulled(site, image, reference)


@EVERY_FORMAT
def test_a_broken_body_goes_on_at_the_byte_reached(site: Site, form: str) -> None:
    image = large()
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(faults.Short(500_000), server="storage", digest=digest, nth=2)
    site.pull(reference, form)
    assert_pulled(site, image, reference, form)
    sent = sum(one.bytes_sent for one in site.standin.log.of("storage", digest=digest))
    assert sent <= image.layers[0].size_bytes + 300_000


def test_a_stalled_body_is_left_after_the_idle_time_and_gone_on_with(site: Site) -> None:
    image = large()
    reference = site.add(image)
    rule = site.standin.faults.add(faults.Stall(400_000), server="storage", times=1, covers=2 * MIB)
    started = time.monotonic()
    site.pull(reference, transfer={"idle_timeout_s": 0.4, "handles_stragglers": False})
    assert rule.fired == 1
    assert time.monotonic() - started < 8
    assert_pulled(site, image, reference)


@EVERY_FORMAT
def test_a_server_that_ignores_ranges_gives_one_stream(site: Site, form: str) -> None:
    image = large()
    reference = site.add(image)
    site.standin.faults.add(faults.IgnoreRange(), server="storage")
    site.pull(reference, form)
    assert_pulled(site, image, reference, form)


@pytest.mark.parametrize("form", ["docker-archive", "keep-compressed"])
def test_a_stream_that_breaks_begins_anew(site: Site, form: str) -> None:
    image = large()
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(faults.IgnoreRange(), server="storage")
    site.standin.faults.add(faults.Short(2_000_000), server="storage", digest=digest, times=2)
    site.pull(reference, form)
    assert_pulled(site, image, reference, form)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_range_that_waits_for_its_next_try_does_not_disturb_the_one_stream(site: Site, nth: int) -> None:
    image = large()
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(faults.Reset(None), server="storage", digest=digest, nth=nth)
    site.standin.faults.add(faults.IgnoreRange(), server="storage", digest=digest)
    site.pull(reference)
    assert_pulled(site, image, reference)


@pytest.mark.parametrize("by_session", [False, True])
def test_an_expired_link_is_asked_for_again_once(site: Site, by_session: bool) -> None:
    image = large()
    reference = site.add(image)
    digest = image.layers[0].digest
    rule = site.standin.faults.add(
        faults.ExpireLink(by_session=by_session), server="storage", digest=digest, nth=3
    )
    site.pull(reference)
    assert rule.fired == 1
    assert_pulled(site, image, reference)
    assert len(site.standin.log.of("registry", digest=digest)) == 2


def test_a_link_that_never_works_is_told_and_not_asked_for_without_end(site: Site) -> None:
    image = large()
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(faults.Status(403), server="storage", digest=digest)
    with pytest.raises(RegistryError, match=r"denied access.*S3 endpoint"):
        site.pull(reference)
    assert len(site.standin.log.of("registry", digest=digest)) <= 3
    assert site.left() == set()


def test_a_token_that_expires_on_the_way_is_renewed_once(site: Site) -> None:
    image = large()
    reference = site.add(image)
    site.pull(reference, path="warm-up")
    site.standin.log.clear()
    rule = site.standin.faults.add(faults.ExpireToken(), server="registry", path="/blobs/", times=1)
    site.pull(reference)
    assert rule.fired == 1
    assert len(site.standin.log.of("token")) == 1
    (site.directory / "warm-up").unlink()
    assert_pulled(site, image, reference)


def test_tokens_that_always_expire_are_an_auth_error(site: Site) -> None:
    reference = site.add(large())
    site.standin.faults.add(faults.ExpireToken(), server="registry")
    with pytest.raises(AuthError):
        site.pull(reference)
    assert len(site.standin.log.of("token")) <= 2
    assert site.left() == set()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_faults_that_never_pass_are_told_after_the_attempts_and_what_came_is_kept(
    site: Site, status: int
) -> None:
    image = large()
    reference = site.add(image)
    digest = image.layers[0].digest
    fault = faults.Status(status, retry_after="0")
    rule = site.standin.faults.add(fault, server="storage", digest=digest, covers=MIB + 9)
    with pytest.raises(TransientError) as caught:
        site.pull(reference, transfer={"attempts": 3})
    assert rule.fired == 3
    assert "\n" not in str(caught.value)
    assert "X-Amz" not in str(caught.value)
    assert "out" not in site.left()
    site.standin.faults.clear()
    site.standin.log.clear()
    site.pull(reference)
    assert_pulled(site, image, reference)
    assert site.standin.log.blob_bytes < sum(layer.size_bytes for layer in image.layers)


def test_a_failure_does_not_wait_for_what_others_wait_for(site: Site) -> None:
    builder = ImageBuilder().layer([("bad", random.Random(1).randbytes(5000))])
    image = builder.layer([("late", random.Random(2).randbytes(5000))]).build()
    reference = site.add(image)
    bad, late = (layer.digest for layer in image.layers)
    site.standin.faults.add(faults.Status(503, retry_after="60"), server="storage", digest=late)
    site.standin.faults.add(faults.Delay(0.3), server="storage", digest=bad)
    site.standin.faults.add(faults.Flip(2000), server="storage", digest=bad)
    started = time.monotonic()
    with pytest.raises(IntegrityError):
        site.pull(reference, "keep-compressed")
    assert time.monotonic() - started < 10
    assert site.left() == set()


def test_a_blob_that_is_gone_is_not_found(site: Site) -> None:
    image = large()
    reference = site.add(image)
    site.standin.faults.add(faults.Status(404), server="storage", digest=image.layers[0].digest)
    with pytest.raises(NotFoundError):
        site.pull(reference)
    assert site.left() == set()


def test_a_straggler_is_left_and_its_rest_comes_over_another_connection(site: Site) -> None:
    image = large(size=9_000_000)
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(
        faults.Slow(100_000), server="storage", digest=digest, covers=2 * MIB + 5, times=1
    )
    site.standin.faults.add(faults.Slow(3_000_000), server="storage", digest=digest)
    started = time.monotonic()
    site.pull(reference)
    assert time.monotonic() - started < 6  # alone it would take ten seconds
    assert_pulled(site, image, reference)
    requests = [one for one in site.standin.log.of("storage", digest=digest) if one.range is not None]
    lasts = [one.range[1] for one in requests if one.range is not None]
    assert len(lasts) == len(set(lasts)) + 1


def test_a_straggler_is_kept_where_nobody_wants_it_left(site: Site) -> None:
    image = large(size=4_000_000)
    reference = site.add(image)
    digest = image.layers[0].digest
    site.standin.faults.add(faults.Slow(700_000), server="storage", digest=digest, covers=2 * MIB, times=1)
    site.pull(reference, transfer={"handles_stragglers": False})
    requests = site.standin.log.of("storage", digest=digest)
    assert len({one.range for one in requests}) == len(requests)
    assert sum(one.bytes_sent for one in requests) == image.layers[0].size_bytes
    assert_pulled(site, image, reference)


def test_many_faults_at_random_are_survived(site: Site) -> None:
    image = large()
    reference = site.add(image)
    actions: list[Action] = [faults.Reset(50_000), faults.Short(90_000), faults.Reset(None)]
    actions += [faults.Status(500), faults.Status(503, retry_after="0")]
    for seed, action in enumerate(actions):
        site.standin.faults.add(action, server="storage", probability=0.12, seed=seed)
    site.pull(reference, transfer={"attempts": 12})
    assert_pulled(site, image, reference)


def test_a_rate_limit_holds_and_nothing_breaks(site: Site) -> None:
    image = large(size=1_500_000)
    reference = site.add(image)
    started = time.monotonic()
    site.pull(reference, transfer={"limit_rate_bytes_s": 1_500_000})
    assert 0.7 < time.monotonic() - started < 8
    assert_pulled(site, image, reference)

"""What an interrupted pull keeps is right: the next run goes on from it."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.command import random_layer
from tests.pulling import Site
from tests.standin.images import ImageBuilder

MB = 1_000_000


@pytest.mark.parametrize("keep", [("--keep-partial",), ("--cache-dir", "cache")], ids=["staging", "cache"])
def test_what_an_interrupted_slow_pull_kept_is_right_and_not_fetched_again(
    site: Site, keep: tuple[str, ...]
) -> None:
    image = ImageBuilder().add(random_layer(1, 16 * MB), random_layer(2, 3 * MB)).build()
    reference = site.add(image)
    arguments = ("pull", reference, "-o", "app.tar", *keep, "--limit-rate", "4M")
    with site.started(*arguments, "--progress", "jsonl") as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "total" and event["fetched_bytes"] > 4 * MB:
                break
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait() == 130
    again = site.command("pull", reference, "-o", "app.tar", *keep, "--json")
    assert again.returncode == 0, again.stderr
    assert "damaged" not in again.stderr
    (result,) = json.loads(again.stdout)["results"]
    assert result["reused_bytes"] > 4 * MB
    assert result["fetched_bytes"] + result["reused_bytes"] == sum(one.size_bytes for one in image.layers)

"""`make demo`: a pull from the stand-in as a user would do it, and a proof of what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from . import machine_image
from .images import BuiltImage
from .proof import ProofError, contents, prove
from .server import StandIn
from .zoo import zoo

_ROOT = Path(__file__).resolve().parents[2]
_REPOSITORY, _TAG = "demo/app", "1.0"


def run(directory: Path, shape: machine_image.Shape) -> int:
    """0 when the tar is the image that was served, 1 when it isn't, else what the command ended with."""
    image = _build(directory, shape)
    output = directory / "pulled" / "app-1.0.tar"
    output.parent.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)
    with StandIn.threaded() as standin:
        digest = standin.add(_REPOSITORY, _TAG, image)
        name = f"{standin.ecr_host}/{_REPOSITORY}:{_TAG}"
        arguments = ["pull", name, "-o", f"{os.path.relpath(output.parent)}/"]
        _say(f"A local ECR and S3 are up, over TLS; {name} is {digest[:19]}…")
        _say(f"$ ecr-async-pull {' '.join(arguments)}")
        started_s = time.monotonic()
        code = subprocess.run(
            [sys.executable, "-m", "ecr_async_pull", *arguments],
            env=_environment(standin),
            check=False,
        ).returncode
        took_s = time.monotonic() - started_s
        requests, blob_bytes = len(standin.requests), standin.log.blob_bytes
    if code != 0:
        _say(f"The command ended with exit code {code}.", failed=True)
        return code
    _say(f"{took_s:.1f} s from start to end; {requests} requests, {blob_bytes / 1e6:,.1f} MB of blobs sent.")
    return _check(output, name=name, image=image)


def _check(output: Path, *, name: str, image: BuiltImage) -> int:
    shown = os.path.relpath(output)
    if not output.exists():
        _say(f"{shown} was not written", failed=True)
        return 1
    _say(f"$ tar -tvf {shown}")
    for line in contents(output):
        print(line, flush=True)
    _say("Recomputed from the tar with tarfile and hashlib alone:")
    try:
        for line in prove(output, image, name=name):
            print(f"OK  {line}", flush=True)
    except ProofError as error:
        _say(f"{shown} is wrong: {error}", failed=True)
        return 1
    left = [path.name for path in output.parent.iterdir() if path != output]
    if left:
        _say(f"left behind beside the tar: {', '.join(left)}", failed=True)
        return 1
    print("OK  nothing else was left behind", flush=True)
    _say(f"Next, where there is an engine:  docker load -i {shown}")
    return 0


def serve(directory: Path, shape: machine_image.Shape) -> int:
    """Serve until stdin closes or a signal comes; prints a line of JSON: what to set and to pull."""
    image = _build(directory, shape)
    with StandIn.threaded() as standin:
        standin.add(_REPOSITORY, _TAG, image)
        animals = []
        for name, animal in zoo().items():
            standin.add(f"zoo/{name}", "1.0", animal)
            animals.append(f"{standin.ecr_host}/zoo/{name}:1.0")
        what = {
            "environment": standin.environment(),
            "references": [f"{standin.ecr_host}/{_REPOSITORY}:{_TAG}", *animals],
            "registry_host": standin.registry_host,
            "token_endpoint": standin.token_endpoint,
        }
        print(json.dumps(what), flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return 0


def _build(directory: Path, shape: machine_image.Shape) -> BuiltImage:
    directory.mkdir(parents=True, exist_ok=True)
    _say("Building an image from this machine's files (the next run finds it again) …")
    image = machine_image.build(directory / "image", shape)
    tar_bytes = sum(layer.tar_size_bytes for layer in image.layers)
    stored_bytes = sum(layer.size_bytes for layer in image.layers)
    megabytes = f"{stored_bytes / 1e6:,.1f} MB stored, {tar_bytes / 1e6:,.1f} MB inflated"
    _say(f"{len(image.layers)} layers, {megabytes}.")
    return image


def _environment(standin: StandIn) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ECR_"))}
    for key in ("https_proxy", "no_proxy", "all_proxy", "ALL_PROXY", "SSL_CERT_FILE"):
        own.pop(key, None)
    return own | {"PYTHONPATH": str(_ROOT)} | standin.environment()


def _say(text: str, *, failed: bool = False) -> None:
    print(f"{'FAILED: ' if failed else ''}{text}", file=sys.stderr, flush=True)

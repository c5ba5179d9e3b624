"""A cache is a shared blob directory as skopeo understands it, for an OCI layout that lies elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

from ecr_async_pull.digest import Digest
from ecr_async_pull.model.descriptor import OCI_CONFIG, OCI_LAYER_TAR, OCI_MANIFEST
from ecr_async_pull.store.cache import BlobCache


def layer_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("hello")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"world"))
    return buffer.getvalue()


def described(media_type: str, raw: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(raw)), "size": len(raw)}


def fill(cache: BlobCache, documents: dict[str, bytes], layer: bytes) -> None:
    for media_type, raw in documents.items():
        cache.put_document(Digest.of(raw), media_type, raw)

    async def ingest() -> None:
        async with cache.ingest(Digest.of(layer), len(layer)) as entry:
            entry.path.write_bytes(layer)
            await entry.commit()

    asyncio.run(ingest())


def test_skopeo_reads_an_image_out_of_the_cache(tmp_path: Path) -> None:
    tar = layer_tar()
    layer = gzip.compress(tar, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar))]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described(OCI_CONFIG, config),
            "layers": [described(f"{OCI_LAYER_TAR}+gzip", layer)],
        }
    ).encode()
    cache = BlobCache(tmp_path / "cache")
    cache.open()
    fill(cache, {OCI_CONFIG: config, OCI_MANIFEST: manifest}, layer)
    cache.close()

    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = described(OCI_MANIFEST, manifest) | {"annotations": {"org.opencontainers.image.ref.name": "1"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))

    output = tmp_path / "output"
    result = subprocess.run(
        [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--src-shared-blob-dir",
            str(tmp_path / "cache" / "blobs"),
            f"oci:{layout}:1",
            f"dir:{output}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (output / "manifest.json").read_bytes() == manifest
    assert (output / Digest.of(config).hex).read_bytes() == config
    assert (output / Digest.of(layer).hex).read_bytes() == layer

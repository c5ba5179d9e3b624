"""An archive with both `manifest.json` and `index.json` must say the same in both: loaders read either."""

from __future__ import annotations

from ..errors import ReferenceError  # noqa: A004 - the field's word
from ..model.reference import ImageReference
from .claims import ImageClaim
from .report import Findings


def check_agreement(
    docker: tuple[ImageClaim, ...], layout: tuple[ImageClaim, ...], findings: Findings
) -> None:
    """Every image of manifest.json is in index.json, with the same layers and names."""
    by_config: dict[str, list[ImageClaim]] = {}
    for claim in layout:
        by_config.setdefault(claim.config_name, []).append(claim)
    for image in docker:
        twins = by_config.get(image.config_name, [])
        same = [twin for twin in twins if _layer_names(twin) == _layer_names(image)]
        if not twins:
            findings.add(
                "index.json",
                f"it doesn't lead to the image with config {image.config_name},"
                " which manifest.json names: tools that read index.json miss it",
            )
        elif not same:
            findings.add(
                "manifest.json", f"its layers for {image.config_name} are not those of {twins[0].source}"
            )
        else:
            _check_names(image, same, findings)


def _check_names(image: ImageClaim, twins: list[ImageClaim], findings: Findings) -> None:
    """Names that are no whole `repository:tag` (a bare tag, a digest) can't be compared and aren't."""
    ours = {name for text in image.names if (name := _familiar(text))}
    theirs = {name for twin in twins for text in twin.names if (name := _familiar(text))}
    if not ours or not theirs:
        return
    for name in sorted(theirs - ours):
        findings.add("manifest.json", f"RepoTags has no {name}, which index.json gives this image")
    for name in sorted(ours - theirs):
        findings.add("index.json", f"it has no {name}, which manifest.json gives this image")


def _familiar(text: str) -> str:
    if ":" not in text.rsplit("/", 1)[-1]:
        return ""
    try:
        reference = ImageReference.parse(text)
    except ReferenceError:
        return ""
    return f"{reference.familiar_name}:{reference.tag}" if reference.digest is None else ""


def _layer_names(claim: ImageClaim) -> tuple[str, ...]:
    return tuple(layer.name for layer in claim.layers)

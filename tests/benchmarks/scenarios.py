"""The scenarios: which images, over which link, against whom, and what is aimed at."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.standin.machine_image import MIB

from . import images
from .contenders import Contenders, Published
from .floor import Floor
from .measure import Bench, Contender, Measured
from .results import Row, above_floor, faster, slower, within

_MEMORY_BYTES = 100_000_000
_START_S = 0.1
_UP_TO_DATE_CPU_S = 0.4
_CONNECTIONS = 16
_LINEAR = 1.25
_DISK_BYTES = 40_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large and how often. `parts`: images of G, in gigabytes."""

    many_tar_bytes: int
    one_tar_bytes: int
    parts: tuple[int, ...]
    part_tar_bytes: int
    runs: int
    has_further_rivals: bool

    @classmethod
    def full(cls, runs: int) -> Scale:
        return cls(
            many_tar_bytes=2600 * MIB,
            one_tar_bytes=800 * MIB,
            parts=(1, 2, 4, 8),
            part_tar_bytes=images.PART_TAR_BYTES,
            runs=runs,
            has_further_rivals=True,
        )

    @classmethod
    def quick(cls, runs: int) -> Scale:
        return cls(
            many_tar_bytes=400 * MIB,
            one_tar_bytes=400 * MIB,
            parts=(1, 2, 4),
            part_tar_bytes=100 * MIB,
            runs=runs,
            has_further_rivals=False,
        )

    @classmethod
    def smoke(cls) -> Scale:
        return cls(
            many_tar_bytes=20 * MIB,
            one_tar_bytes=20 * MIB,
            parts=(1, 2),
            part_tar_bytes=5 * MIB,
            runs=1,
            has_further_rivals=False,
        )


@dataclass(slots=True, kw_only=True)
class Session:
    """What scenarios share, and what they came to."""

    contenders: Contenders
    bench: Bench
    scale: Scale
    images: Path
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    measured: list[tuple[str, Measured]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def many(self) -> Published:
        image = images.many_layers(self.images, tar_bytes=self.scale.many_tar_bytes)
        return self.contenders.publish(image, "bench/many")

    def one(self) -> Published:
        image = images.one_layer(self.images, tar_bytes=self.scale.one_tar_bytes)
        return self.contenders.publish(image, "bench/one")

    def compare(
        self,
        scenario: str,
        contenders: Sequence[Contender],
        runs: int | None = None,
        *,
        floor: Floor | None = None,
    ) -> list[Measured]:
        """In the order of `contenders`; the floor is measured in between."""
        between = floor.sample if floor else None
        measured = self.bench.compare(contenders, runs or self.scale.runs, between=between)
        self.measured += [(scenario, each) for each in measured.values()]
        if floor:
            self.notes.append(f"{scenario}: {floor.note()}")
        return list(measured.values())

    def floor(self, published: Published) -> Floor:
        return Floor(self.bench, self.contenders, published)


def a(session: Session) -> None:
    """Many layers, no cap, to docker-archive."""
    make, published = session.contenders, session.many()
    link = make.links.open
    rivals = [
        make.skopeo(published, link, "docker-archive"),
        make.pipeline(published, link, hash_name="sha256sum", packs=False),
    ]
    if session.scale.has_further_rivals:
        rivals += [
            make.pipeline(published, link, hash_name="openssl", packs=False),
            make.pipeline(published, link, hash_name="openssl", packs=True),
        ]
    floor = session.floor(published)
    ours, skopeo, shell, *further = session.compare("A", [make.ours(published, link), *rivals], floor=floor)
    session.rows += [
        faster("A", ours, skopeo, 4.5),
        faster("A", ours, shell, 2.0),
        *(faster("A", ours, each) for each in further),
        above_floor("A", ours, "the floor", floor.seconds, 1.35),
        _memory("A", ours),
    ]


def b(session: Session) -> None:
    """The same to oci and to docker-archive with layers as stored."""
    make, published = session.contenders, session.many()
    link = make.links.open
    floor = session.floor(published)
    oci, kept, unread, unread_kept, skopeo, curl, *cranes = session.compare(
        "B",
        [
            make.ours(published, link, "--format", "oci"),
            make.ours(published, link, "--keep-compressed"),
            make.ours(published, link, "--format", "oci", "--verify", "stored"),
            make.ours(published, link, "--keep-compressed", "--verify", "stored"),
            make.skopeo(published, link, "oci"),
            make.parallel_curl(published, link),
            *make.crane(published, link, "oci"),
            *make.crane(published, link, "tarball"),
        ],
        floor=floor,
    )
    session.rows += [
        faster("B", oci, skopeo, 1.25),
        faster("B", kept, skopeo, 1.5),
        faster("B", unread, skopeo),
        faster("B", unread_kept, skopeo),
        *(faster("B", ours, crane) for ours, crane in zip((unread, unread_kept), cranes, strict=False)),
        slower("B", oci, curl, 1.5),
        slower("B", kept, curl, 1.5),
        slower("B", unread, curl),
        above_floor("B", oci, "the floor", floor.seconds),
        above_floor("B", kept, "the floor", floor.seconds),
        above_floor("B", unread, "the floor, nothing inflated", floor.stored_seconds),
        _memory("B", oci),
        _memory("B", kept),
    ]


def c(session: Session) -> None:
    """One large layer, capped connections."""
    make, published = session.contenders, session.one()
    link = make.links.capped
    docker, oci, unread, skopeo_docker, skopeo_oci, aria2c, *cranes = session.compare(
        "C",
        [
            make.ours(published, link),
            make.ours(published, link, "--format", "oci"),
            make.ours(published, link, "--format", "oci", "--verify", "stored"),
            make.skopeo(published, link, "docker-archive"),
            make.skopeo(published, link, "oci"),
            make.aria2c(published, link),
            *make.crane(published, link, "oci"),
        ],
    )
    session.rows += [
        faster("C", docker, skopeo_docker, 4.0),
        faster("C", oci, skopeo_oci, 7.0),
        faster("C", unread, skopeo_oci),
        *(faster("C", unread, crane) for crane in cranes),
        _of_the_speed("C", oci, aria2c, 0.9),
        _of_the_speed("C", unread, aria2c),
        _memory("C", docker),
        _memory("C", oci),
    ]


def d(session: Session) -> None:
    """Many layers, capped connections."""
    make, published = session.contenders, session.many()
    link = make.links.capped
    docker, oci, unread, skopeo_docker, skopeo_oci, *cranes = session.compare(
        "D",
        [
            make.ours(published, link),
            make.ours(published, link, "--format", "oci"),
            make.ours(published, link, "--format", "oci", "--verify", "stored"),
            make.skopeo(published, link, "docker-archive"),
            make.skopeo(published, link, "oci"),
            *make.crane(published, link, "oci"),
        ],
    )
    session.rows += [
        faster("D", docker, skopeo_docker, 5.0),
        faster("D", oci, skopeo_oci, 2.5),
        faster("D", unread, skopeo_oci),
        *(faster("D", unread, crane) for crane in cranes),
        _memory("D", docker),
        _memory("D", oci),
    ]


def e(session: Session) -> None:
    """127 tiny layers, 50 ms away."""
    make = session.contenders
    published = make.publish(images.tiny_layers(127), "bench/tiny")
    link, watch = make.links.distant, make.links.watch_depth
    (ours,) = session.compare("E", [make.ours(published, link, watch=watch)])
    # once: it takes a minute, and nothing is aimed at
    (skopeo,) = session.compare("E", [make.skopeo(published, link, "docker-archive", watch=watch)], 1)
    most = 3 + math.ceil(127 / _CONNECTIONS)
    assert ours.depth is not None
    session.rows += [
        faster("E", ours, skopeo),
        within(
            "E",
            ours,
            ours.name,
            text=f"{ours.depth} round trips deep (skopeo {skopeo.depth})",
            target=f"<= {most}",
            is_met=ours.depth <= most,
        ),
        _memory("E", ours),
    ]


def f(session: Session) -> None:
    """Many layers, one connection in eight at a twentieth of the speed."""
    make, published = session.contenders, session.many()
    crawl, even, left = session.compare(
        "F",
        [
            make.ours(published, make.links.uneven),
            make.ours(published, make.links.capped, name="no slow connection"),
            make.unrescued(published, make.links.uneven),
        ],
    )
    session.rows += [
        slower("F", crawl, even, 1.3),
        faster("F", crawl, left),
        _memory("F", crawl),
    ]


def g(session: Session) -> None:
    """Time and memory as images grow."""
    make, scale = session.contenders, session.scale
    link = make.links.open
    counts = list(scale.parts)
    free_bytes = shutil.disk_usage(session.images.parent).free
    if scale.part_tar_bytes == images.PART_TAR_BYTES and free_bytes < _DISK_BYTES:
        counts = [count for count in counts if count < 8]
        session.notes.append("G without 8 GB: less than 40 GB of disk are free")
    contenders: list[tuple[Contender, int]] = []
    for count in counts:
        image = images.parts(session.images, count, tar_bytes=scale.part_tar_bytes)
        published = make.publish(image, f"bench/parts-{count}")
        label = f"{published.tar_bytes / 1e9:.2g} GB in {len(image.layers)} layers"
        contenders.append((make.ours(published, link, name=label), published.tar_bytes))
    for layers in (1, 127):
        image = images.split(session.images, tar_bytes=scale.part_tar_bytes, layers=layers)
        published = make.publish(image, f"bench/split-{layers}")
        label = f"{published.tar_bytes / 1e9:.2g} GB in {layers} {'layer' if layers == 1 else 'layers'}"
        contenders.append((make.ours(published, link, name=label), published.tar_bytes))
    measured = session.compare("G", [contender for contender, _ in contenders])
    first_s = measured[0].wall_s / contenders[0][1] * 1e9
    for each, (_, tar_bytes) in zip(measured, contenders, strict=True):
        per_gigabyte_s = each.wall_s / tar_bytes * 1e9
        is_size = each in measured[: len(counts)]
        session.rows.append(
            within(
                "G",
                each,
                each.name,
                text=f"{per_gigabyte_s:.2f} s a GB, {per_gigabyte_s / first_s:.2f} of the smallest",
                target=f"<= {_LINEAR}" if is_size else "",
                is_met=per_gigabyte_s <= _LINEAR * first_s if is_size else None,
            )
        )
        session.rows.append(_memory("G", each))


def h(session: Session) -> None:
    """Start-up, and a pull that has nothing to do."""
    make = session.contenders
    published = make.publish(images.tiny_layers(3), "bench/three")
    runs = max(5, session.scale.runs) if session.scale.runs > 1 else 1
    version, helped, again = session.compare(
        "H",
        [make.said("--version"), make.said("--help"), make.up_to_date(published, make.links.open)],
        runs,
    )
    session.rows += [
        within(
            "H",
            each,
            each.name,
            text=f"{each.wall_s * 1000:.0f} ms",
            target=f"< {_START_S * 1000:.0f} ms",
            is_met=each.wall_s < _START_S,
        )
        for each in (version, helped)
    ]
    session.rows.append(
        within(
            "H",
            again,
            again.name,
            text=f"{again.cpu_s * 1000:.0f} ms of CPU",
            target=f"< {_UP_TO_DATE_CPU_S * 1000:.0f} ms",
            is_met=again.cpu_s < _UP_TO_DATE_CPU_S,
        )
    )


def _of_the_speed(scenario: str, ours: Measured, rival: Measured, least: float | None = None) -> Row:
    speed = rival.wall_s / ours.wall_s
    return within(
        scenario,
        ours,
        ours.name,
        text=f"{speed:.2f} of the speed of {rival.name} ({rival.wall_s:.2f} s)",
        target=f">= {least}" if least else "",
        is_met=speed >= least if least else None,
    )


def _memory(scenario: str, ours: Measured) -> Row:
    return within(
        scenario,
        ours,
        ours.name,
        text=f"{ours.peak_rss_bytes / 1e6:.0f} MB at most",
        target=f"< {_MEMORY_BYTES / 1e6:.0f} MB",
        is_met=ours.peak_rss_bytes < _MEMORY_BYTES,
    )


SCENARIOS: dict[str, Callable[[Session], None]] = {
    "A": a,
    "B": b,
    "C": c,
    "D": d,
    "E": e,
    "F": f,
    "G": g,
    "H": h,
}

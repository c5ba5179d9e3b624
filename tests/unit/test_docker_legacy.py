"""The layout of Docker up to 24: a function of config, names and layer sizes, byte for byte."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from ecr_async_pull.archive import docker_legacy
from ecr_async_pull.archive.layout import BlobContent, Form, Member, MemberKind
from ecr_async_pull.archive.v1_image import DOCKER_24, DOCKER_28
from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import UnsupportedImageError
from ecr_async_pull.model.image_config import ImageConfig

from .image_values import by_name, config_bytes, platform_image, resolved, tar_sizes, written

ZERO_CONFIG = (
    '{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,'
    '"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,'
    '"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}'
)
DIFF_IDS = (
    "7fc6a0cfda07a232536e5b87d839222ec2436fd2ace20c4b6f6546e94f38d26a",
    "f6853dba344bf3ec277bb4da4e27028abe994cfe0615b9dd86131c3521292634",
    "390b45fda58ec10172b34c902570434984673eb5eae9be7455e11a00e8619f74",
)
IDS = (
    "3476be86c2d76abb07c205da1b0a972bf4205fe41777ada8dd39e387d0ee6a10",
    "95616f969cb841d052bcf5f7f6a8546db8d9216e71e6064c268d12ef124d3c7b",
    "5455e120260be8d4e3288e23544f134f74ebd14bca61d7e13f78658e19e88510",
)
CONFIG = (
    '{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09.123456789Z",'
    '"config":{"Env":["PATH=/bin"],"Cmd":["sh"],"WorkingDir":"/"},"history":[],'
    '"rootfs":{"type":"layers","diff_ids":[' + ",".join(f'"sha256:{diff_id}"' for diff_id in DIFF_IDS) + "]}}"
)
CREATED_S = 1714979289
CREATED = '"os":"linux","created":"2024-05-06T07:08:09.5Z",'
X, Y, Z = b"x" * 700, b"y" * 600, b"z" * 500


def legacy_json(extra: str) -> str:
    """The top layer's v1 json of a config with `extra`, without its id."""
    config = ImageConfig.parse(config_bytes([X], extra))
    json = DOCKER_24.v1_image(config).layers[0].json.decode()
    return "{" + json[len('{"id":"') + 64 + len('",') :]


def test_ids_and_json_are_dockers() -> None:
    image = DOCKER_24.v1_image(ImageConfig.parse(CONFIG.encode()))
    assert tuple(layer.id for layer in image.layers) == IDS
    assert image.layers[1].json.decode() == (
        f'{{"id":"{IDS[1]}","parent":"{IDS[0]}","created":"1970-01-01T00:00:00Z",'
        f'"container_config":{ZERO_CONFIG},"os":"linux"}}'
    )
    assert len(image.layers[1].json) == 477
    assert image.mtime_s == CREATED_S


def test_the_top_layer_has_the_configs_fields_in_struct_order() -> None:
    top = DOCKER_24.v1_image(ImageConfig.parse(CONFIG.encode())).layers[2].json.decode()
    assert top == (
        f'{{"id":"{IDS[2]}","parent":"{IDS[1]}","created":"2024-05-06T07:08:09.123456789Z",'
        f'"container_config":{ZERO_CONFIG},"config":'
        + ZERO_CONFIG.replace('"Env":null,"Cmd":null', '"Env":["PATH=/bin"],"Cmd":["sh"]').replace(
            '"WorkingDir":""', '"WorkingDir":"/"'
        )
        + ',"architecture":"amd64","os":"linux"}'
    )


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ('"config":{"Env":["<\\u003c>"]},', '"Env":["\\u003c\\u003c\\u003e"]'),
        ('"config":{"Env":["\\b\\f\\n"]},', '"Env":["\\u0008\\u000c\\n"]'),
        ('"config":{"Env":["\u2028\u00e9"]},', '"Env":["\\u2028\u00e9"]'),
        ('"config":{"Env":[]},', '"Env":[]'),
        ('"config":{"Cmd":"sh -c"},', '"Cmd":["sh -c"]'),
        ('"config":{"Labels":{"b":"","a":null}},', '"Labels":{"a":"","b":""}'),
        ('"config":{"ExposedPorts":{"80/tcp":{"x":1}}},', '"ExposedPorts":{"80/tcp":{}},"Tty"'),
        ('"config":{"StopTimeout":0,"Shell":[]},', '"Labels":null,"StopTimeout":0}'),
        ('"config":{"Healthcheck":{}},', '"Cmd":null,"Healthcheck":{},"Image"'),
        ('"CONFIG":{"u\u017fer":"me"},', '"User":"me"'),
        ('"Size":7,"id":"own","parent":"own",', '"os":"linux","Size":7}'),
        ('"created":null,', '{"created":"0001-01-01T00:00:00Z",'),
    ],
)
def test_the_config_is_decoded_and_written_as_docker_does(extra: str, expected: str) -> None:
    assert expected in legacy_json('"os":"linux",' + extra)


def test_a_config_that_is_null_is_left_out_and_an_empty_one_is_not() -> None:
    assert '"config":' not in legacy_json('"config":null,')
    assert f'"config":{ZERO_CONFIG}' in legacy_json('"config":{},')


def test_the_profiles_differ_in_null_times_escapes_and_the_start_interval() -> None:
    config = ImageConfig.parse(
        config_bytes([X], '"config":{"User":"\\b","Healthcheck":{"StartInterval":5}},')
    )
    old, new = (profile.v1_image(config).layers[0].json.decode() for profile in (DOCKER_24, DOCKER_28))
    assert '"created":"0001-01-01T00:00:00Z"' in old
    assert '"User":"\\u0008"' in old
    assert '"Healthcheck":{}' in old
    assert '"created":null' in new
    assert '"User":"\\b"' in new
    assert '"Healthcheck":{"StartInterval":5}' in new


def test_the_archive_is_sorted_and_complete() -> None:
    raw = config_bytes([X, Y], CREATED)
    image = resolved(platform_image(raw, [X, Y]), "team/app:1", "team/app:2", "other:x")
    members = docker_legacy.members([image], tar_sizes(X, Y))
    first, top = (layer.id for layer in DOCKER_24.v1_image(ImageConfig.parse(raw)).layers)
    directories = sorted([first, top])
    config_name = f"{Digest.of(raw).hex}.json"
    hex_names = sorted(
        [(f"{config_name}",), *((name,) for name in directories)],
        key=lambda name: name[0],
    )
    expected: list[str] = []
    for (name,) in hex_names:
        expected += (
            [name]
            if name == config_name
            else [f"{name}/{part}" for part in ("", "VERSION", "json", "layer.tar")]
        )
    assert [member.name for member in members] == [*expected, "manifest.json", "repositories"]
    found = by_name(members)
    assert found[config_name].content == raw
    assert found[f"{top}/VERSION"].content == b"1.0"
    assert (
        found["manifest.json"].content
        == (
            f'[{{"Config":"{config_name}","RepoTags":["team/app:1","team/app:2","other:x"],'
            f'"Layers":["{first}/layer.tar","{top}/layer.tar"]}}]\n'
        ).encode()
    )
    assert (
        found["repositories"].content
        == (f'{{"other":{{"x":"{top}"}},"team/app":{{"1":"{top}","2":"{top}"}}}}\n').encode()
    )
    assert found[f"{first}/layer.tar"].content == BlobContent(
        digest=Digest.of(X), form=Form.TAR, size_bytes=len(X)
    )
    times = {member.name: member.mtime_s for member in members}
    assert times.pop("manifest.json") == times.pop("repositories") == 0
    assert set(times.values()) == {CREATED_S}


def test_tarfile_reads_the_layers_back() -> None:
    image = resolved(platform_image(config_bytes([X, Y], CREATED), [X, Y]), "app:1")
    archive = written(docker_legacy.members([image], tar_sizes(X, Y)), [X, Y])
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as reader:
        manifest = reader.extractfile("manifest.json")
        assert manifest is not None
        layers = [reader.extractfile(name) for name in json.load(manifest)[0]["Layers"]]
        assert [layer.read() for layer in layers if layer is not None] == [X, Y]


def test_without_names_the_tags_are_null_and_repositories_is_absent() -> None:
    image = resolved(platform_image(config_bytes([X]), [X]))
    found = by_name(docker_legacy.members([image], tar_sizes(X)))
    assert "repositories" not in found
    content = found["manifest.json"].content
    assert isinstance(content, bytes)
    assert b'"RepoTags":null' in content


def test_a_repeated_layer_links_to_the_lowest_and_its_directory_has_no_time() -> None:
    raw = config_bytes([X, Y, X], CREATED)
    members = docker_legacy.members([resolved(platform_image(raw, [X, Y, X]), "a:1")], tar_sizes(X, Y))
    lowest, _, top = DOCKER_24.v1_image(ImageConfig.parse(raw)).layers
    found = by_name(members)
    link = found[f"{top.id}/layer.tar"]
    assert (link.kind, link.link_target, link.mode) == (
        MemberKind.SYMLINK,
        f"../{lowest.id}/layer.tar",
        0o777,
    )
    assert {found[f"{top.id}/{part}"].mtime_s for part in ("", "VERSION", "json", "layer.tar")} == {0}
    assert found[f"{lowest.id}/layer.tar"].mtime_s == CREATED_S


def test_two_images_share_their_lower_layers_and_the_first_one_asked_for_has_the_file() -> None:
    one, two = config_bytes([X, Y], CREATED), config_bytes([X, Y, Z], CREATED)
    first = resolved(platform_image(one, [X, Y]), "a:1")
    second = resolved(platform_image(two, [X, Y, Z]), "b:1")
    members = docker_legacy.members([first, second], tar_sizes(X, Y, Z))
    kept = [member.content for member in members if isinstance(member.content, BlobContent)]
    assert sorted(content.digest for content in kept) == sorted(map(Digest.of, (X, Y, Z)))
    ids = [layer.id for layer in DOCKER_24.v1_image(ImageConfig.parse(one)).layers]
    found = by_name(members)
    assert all(found[f"{layer_id}/layer.tar"].kind is MemberKind.FILE for layer_id in ids)
    manifest = found["manifest.json"].content
    assert isinstance(manifest, bytes)
    assert [entry["RepoTags"] for entry in json.loads(manifest)] == [["a:1"], ["b:1"]]
    # b's second layer is a top layer in a, so it has another id there: a link to the file that a has
    twice = found[f"{DOCKER_24.v1_image(ImageConfig.parse(two)).layers[1].id}/layer.tar"]
    assert twice.link_target == f"../{ids[1]}/layer.tar"


def test_the_same_image_twice_is_one_entry_with_both_names() -> None:
    image = platform_image(config_bytes([X]), [X])
    once = docker_legacy.members([resolved(image, "a:1", "a:2")], tar_sizes(X))
    assert docker_legacy.members([resolved(image, "a:1"), resolved(image, "a:2")], tar_sizes(X)) == once


@pytest.mark.parametrize(
    ("created", "mtime_s"),
    [
        ("1969-12-31T23:59:59Z", 0),
        ("2242-03-16T12:56:32Z", 8**11),
        ("2262-04-11T23:47:16.5Z", 9223372036),
        ("2262-04-11T23:47:17Z", 0),
    ],
)
def test_times_that_docker_cannot_set_are_0(created: str, mtime_s: int) -> None:
    config = ImageConfig.parse(config_bytes([X], f'"created":"{created}",'))
    assert DOCKER_24.v1_image(config).mtime_s == mtime_s


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ('"config":{"Env":"x"},', r"config\.Env"),
        ('"config":{"StopTimeout":1.0},', r"config\.StopTimeout"),
        ('"container_config":[],', "container_config"),
        ('"config":{"Healthcheck":{"Retries":"1"}},', r"config\.Healthcheck\.Retries"),
        ('"history":{},', "history"),
        ('"history":[{"empty_layer":1}],', r"history\[\]\.empty_layer"),
        ('"history":[{},{}],', "history"),
        ('"created":"2024-05-06T07:08:09\\u005a",', "created"),
        ('"created":"2024-05-06T07:08:09+24:00",', "created"),
    ],
)
def test_what_docker_refuses_is_refused_by_field_and_format(extra: str, field: str) -> None:
    image = resolved(platform_image(config_bytes([X], extra), [X]), "a:1")
    with pytest.raises(UnsupportedImageError, match=rf"docker-legacy archive.*'{field}'"):
        docker_legacy.members([image], tar_sizes(X))


def test_an_image_without_layers_cannot_be_saved() -> None:
    image = resolved(platform_image(config_bytes([]), []), "a:1")
    with pytest.raises(UnsupportedImageError, match="no layers"):
        docker_legacy.members([image], {})


def test_empty_history_entries_may_outnumber_the_layers() -> None:
    extra = '"history":[{"empty_layer":true},{"empty_layer":true},{}],'
    members = docker_legacy.members([resolved(platform_image(config_bytes([X], extra), [X]))], tar_sizes(X))
    assert all(isinstance(member, Member) for member in members)

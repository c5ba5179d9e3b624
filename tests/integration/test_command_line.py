"""Through the real command line: what a person sees when all is well, and one line when it isn't."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pulling import FORMATS, Site, prove_any
from tests.standin import faults
from tests.standin.images import BuiltImage, ImageBuilder
from tests.standin.server import SECRET_KEY
from tests.standin.zoo import zoo

OPTIONS = {
    "docker-archive": [],
    "keep-compressed": ["--keep-compressed"],
    **{name: ["--format", name] for name in ("docker-legacy", "oci-archive", "oci")},
}
SECRETS = re.compile(
    rf"X-Amz-|Authorization:|Basic [A-Za-z0-9]{8}|QVdTO|{re.escape(SECRET_KEY)}|Traceback", re.IGNORECASE
)


def small() -> BuiltImage:
    return ImageBuilder().layer([("a", b"a" * 5000)]).layer([("b", b"b" * 5000)]).build()


def refused(
    site: Site, result: subprocess.CompletedProcess[str], code: int, *hints: str, left: set[str] | None = None
) -> str:
    """One line after the progress, nothing on stdout, the exit code, and nothing left behind."""
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("ecr-async-pull: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.endswith(f"{lines[0]}\n")
    assert result.stdout == ""
    for hint in hints:
        assert hint in lines[0]
    assert not SECRETS.search(result.stderr)
    assert site.left() == (left or set())
    return lines[0]


@pytest.mark.parametrize("form", list(FORMATS))
def test_a_pull_writes_the_default_name_and_verify_agrees(site: Site, form: str) -> None:
    image = small()
    reference = site.add(image, repository=f"team/{form}/app")
    result = site.command("pull", reference, *OPTIONS[form])
    assert result.returncode == 0, result.stderr
    name = "app-1.0" if form == "oci" else "app-1.0.tar"
    assert site.left() == {name}
    assert image.config_digest in result.stdout
    prove_any(site.directory / name, form, image, name=reference)
    assert site.command("verify", name).returncode == 0


def test_a_bare_reference_a_digest_and_a_directory_mean_what_they_say(site: Site) -> None:
    image = small()
    repository = site.add(image, repository="team/bare").rpartition(":")[0]
    (site.directory / "sub").mkdir()
    result = site.command(f"{repository}@{image.digest}", "-o", "sub", "-q")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert os.listdir(site.directory / "sub") == [f"bare-{image.digest[7:]}.tar"]
    prove_any(
        site.directory / "sub" / f"bare-{image.digest[7:]}.tar",
        "docker-archive",
        image,
        name=f"{repository}:{image.digest[7:]}",
    )


def test_nothing_secret_is_told_however_much_is_asked_to_be_told(site: Site) -> None:
    reference = site.add(small())
    site.standin.faults.add(faults.Status(503), server="storage", times=1)
    site.standin.faults.add(faults.Reset(10), server="storage", nth=3)
    result = site.command("pull", reference, "-vv")
    assert result.returncode == 0, result.stderr
    assert not SECRETS.search(result.stderr + result.stdout), result.stderr


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "not a reference",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/a:",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/a@sha256:12",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/a:b:c",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/../../etc:1",
    ],
)
def test_a_malformed_reference_is_a_usage_error(site: Site, reference: str) -> None:
    refused(site, site.command("pull", reference), 2)


def test_an_upper_case_repository_is_a_usage_error(site: Site) -> None:
    line = refused(site, site.command("pull", f"{site.standin.ecr_host}/Team/App:1"), 2)
    assert "case" in line


def test_a_missing_tag_and_a_missing_repository_are_told_apart(site: Site) -> None:
    reference = site.add(small())
    refused(site, site.command("pull", reference + "-no"), 4, "1.0-no", "check the tag")
    refused(site, site.command("pull", f"{site.standin.ecr_host}/nowhere:1"), 4, "repository", "nowhere")


def test_no_credentials_say_how_to_get_some(site: Site) -> None:
    result = site.command("pull", site.add(small()), AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    refused(site, result, 3, "no AWS credentials", "AWS_PROFILE")


def test_a_region_that_refuses_the_token_is_told_as_a_login(site: Site) -> None:
    reference = site.add(small())
    site.standin.faults.add(faults.Status(400), server="registry")  # ECR's words for another region's token
    refused(site, site.command("pull", reference), 3, "check the region and account")


def test_a_region_that_there_is_not_is_one_line(site: Site) -> None:
    reference = site.add(small()).replace("us-east-1", "xx-nowhere-9")
    result = site.command("pull", reference)
    assert result.returncode in (3, 4)
    refused(site, result, result.returncode, "xx-nowhere-9")


def test_an_expired_sso_login_names_the_command_to_run(site: Site) -> None:
    config = site.home / "config"
    config.write_text(
        "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n"
    )
    result = site.command(
        "pull",
        site.add(small()),
        AWS_CONFIG_FILE=str(config),
        AWS_PROFILE="work",
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
    )
    refused(site, result, 3, "aws sso login --profile work")


def test_an_output_directory_that_does_not_exist_is_named(site: Site) -> None:
    result = site.command("pull", site.add(small()), "-o", "missing/app.tar")
    refused(site, result, 6, "missing")


def test_an_output_that_is_in_the_way_is_named(site: Site) -> None:
    (site.directory / "file").write_bytes(b"mine")
    result = site.command("pull", site.add(small()), "-o", "file/app.tar")
    refused(site, result, 6, "file", left={"file"})
    result = site.command("pull", site.add(small()), "--format", "oci", "-o", "file")
    refused(site, result, 2, "file", left={"file"})


def test_standard_output_is_no_file_to_write(site: Site) -> None:
    result = site.command("pull", site.add(zoo()["plain"]), "-o", "-")
    assert result.returncode == 2
    assert result.stderr.startswith("ecr-async-pull: an archive is written to a file")
    assert site.left() == set()


def test_a_host_that_does_not_resolve_is_named(site: Site) -> None:
    result = site.command("pull", "registry.invalid/app:1", HTTPS_PROXY=None)
    refused(site, result, 4, "registry.invalid", "does not resolve")


def test_a_host_that_the_proxy_refuses_is_named(site: Site) -> None:
    refused(site, site.command("pull", "registry.invalid/app:1"), 4, "registry.invalid", "proxy")


@pytest.mark.parametrize(
    ("animal", "hint"), [("schema1", "schema"), ("helm-chart", "helm"), ("artifact", "image")]
)
def test_what_is_no_image_is_told_what_it_is(site: Site, animal: str, hint: str) -> None:
    line = refused(site, site.command("pull", site.add(zoo()[animal])), 4)
    assert hint in line.lower()


def test_a_platform_that_is_not_there_is_told_those_that_are(site: Site) -> None:
    result = site.command("pull", site.add(zoo()["two-platforms"]), "--platform", "linux/s390x")
    refused(site, result, 4, "linux/s390x", "linux/amd64", "linux/arm64")
    result = site.command("pull", site.add(zoo()["two-platforms"]), "--platform", "linux//")
    refused(site, result, 2, "linux//")


def test_one_wrong_byte_is_exit_code_5_and_the_old_file_stays(site: Site) -> None:
    image = small()
    reference = site.add(image)
    name = reference.rpartition("/")[2].replace(":", "-") + ".tar"
    (site.directory / name).write_bytes(b"old")
    site.standin.faults.add(faults.Flip(60), server="storage", digest=image.layers[1].digest)
    refused(site, site.command("pull", reference), 5, image.layers[1].digest, left={name})
    assert (site.directory / name).read_bytes() == b"old"


def test_a_ca_bundle_that_is_none_is_named(site: Site) -> None:
    result = site.command("pull", site.add(small()), AWS_CA_BUNDLE="/nowhere.pem")
    refused(site, result, 2, "/nowhere.pem")


def test_a_server_that_is_not_trusted_is_refused(site: Site) -> None:
    result = site.command("pull", site.add(small()), AWS_CA_BUNDLE=None)
    assert result.returncode in (3, 4)
    refused(site, result, result.returncode, "not trusted", "AWS_CA_BUNDLE")


def test_a_home_that_cannot_be_written_does_not_matter(site: Site) -> None:
    nowhere = "/proc/nowhere"
    result = site.command(
        "pull", site.add(small()), "-q", HOME=nowhere, XDG_CACHE_HOME=nowhere, XDG_STATE_HOME=nowhere
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
@pytest.mark.parametrize("form", ["docker-archive", "oci"])
def test_interrupted_on_the_way_it_cleans_up(site: Site, form: str, signals: list[signal.Signals]) -> None:
    image = ImageBuilder().layer([("big", random.Random(1).randbytes(3_000_000))]).build()
    reference = site.add(image)
    site.standin.faults.add(faults.Slow(500_000), server="storage", digest=image.layers[0].digest)
    with site.started("pull", reference, *OPTIONS[form]) as process:
        deadline = time.monotonic() + 30
        while not site.standin.log.of("storage", digest=image.layers[0].digest):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        for number in signals:
            process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1:] == ["ecr-async-pull: interrupted"], err
    assert "Traceback" not in err
    assert site.left() == set()


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    directory = tmp_path / "small-disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(directory)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here: a full disk was not tried")
    return directory


@pytest.mark.parametrize("kind", ["known at once", "only found on the way"])
def test_a_full_disk_is_told_and_nothing_gets_the_final_name(site: Site, full_disk: Path, kind: str) -> None:
    try:
        builder = ImageBuilder(oci=True)
        if kind == "known at once":
            builder.layer([("big", random.Random(1).randbytes(9_000_000))], level=1)
        else:  # its size is told by nothing but the end of its stream
            builder.layer([("big", bytes(30_000_000))], compression="bzip2")
        reference = site.add(builder.build())
        (full_disk / "app.tar").write_bytes(b"old")
        result = site.command("pull", reference, "-o", str(full_disk / "app.tar"))
        assert result.returncode == 6, result.stderr
        assert "space" in result.stderr
        assert "Traceback" not in result.stderr
        assert (full_disk / "app.tar").read_bytes() == b"old"
        left = set(os.listdir(full_disk)) - {"app.tar"}
        assert all(one.startswith(".ecr-async-pull-") for one in left)
        assert left == set() or "kept in" in result.stderr
    finally:
        subprocess.run(["umount", str(full_disk)], check=True)

import gzip
import hashlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.image import oci, tar
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH
from tests.rootfs import sample

pytestmark = pytest.mark.sandbox


def write(path: Path, sandbox: Sandbox, *, architecture: str = "x86_64", name: str = "qemu-x86_64") -> Path:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain, scratch = Path(folder, "root fs.tar"), Path(folder, "scratch")
        tar.write(sample(), plain)
        scratch.mkdir()
        oci.write(
            plain, path, sandbox=sandbox, scratch=scratch, architecture=architecture, name=name, labels={"is": "a test"}
        )
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, image_sandbox: Sandbox) -> Path:
    return write(tmp_path_factory.mktemp("oci") / "a.oci.tar", image_sandbox)


def run(sandbox: Sandbox, folder: Path, *words: str) -> bytes:
    return sandbox.with_mounts([Mount(source=folder, target="/work", writable=True)]).run(words)


def skopeo(sandbox: Sandbox, folder: Path, *words: str) -> Any:
    out = run(sandbox, folder, "skopeo", "--tmpdir", "/tmp", "--insecure-policy", *words)
    return json.loads(out) if words[0] == "inspect" else None


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: file.read() for member in archive if (file := archive.extractfile(member)) and member.isfile()
        }


def test_each_blob_is_there_by_its_digest_and_named_by_another(image: Path) -> None:
    found = members(image)
    assert json.loads(found.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(found.pop("index.json"))
    blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in found.values()}
    assert {f"blobs/{name.replace(':', '/')}" for name in blobs} == found.keys()
    (described,) = index["manifests"]
    assert described["platform"] == {"architecture": "amd64", "os": "linux"}
    assert described["annotations"] == {"org.opencontainers.image.ref.name": "qemu-x86_64:latest"}
    manifest = json.loads(blobs.pop(described["digest"]))
    config, (layer,) = manifest["config"], manifest["layers"]
    assert (config["size"], layer["size"]) == (len(blobs[config["digest"]]), len(blobs[layer["digest"]]))
    plain = gzip.decompress(blobs[layer["digest"]])
    (diff_id,) = json.loads(blobs[config["digest"]])["rootfs"]["diff_ids"]
    assert diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert len(blobs) == 2


@pytest.mark.parametrize("tag", ["", ":qemu-x86_64:latest"])
def test_skopeo_reads_what_it_is_and_what_it_runs(image: Path, checkers: Sandbox, tag: str) -> None:
    found = skopeo(checkers, image.parent, "inspect", f"oci-archive:/work/a.oci.tar{tag}")
    assert (found["Architecture"], found["Os"], found["Created"]) == ("amd64", "linux", "2026-01-01T00:00:00Z")
    assert found["Labels"] == {"is": "a test"} and len(found["Layers"]) == 1
    config = skopeo(checkers, image.parent, "inspect", "--config", f"oci-archive:/work/a.oci.tar{tag}")
    assert config["config"]["Cmd"] == ["/bin/sh"]
    assert config["config"]["Env"] == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    assert config["history"] == [{"created": "2026-01-01T00:00:00Z", "created_by": "kiln"}]


def test_the_layer_is_the_root_file_system(image: Path, checkers: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.oci.tar").write_bytes(image.read_bytes())
    # What copies checks every digest.
    skopeo(checkers, tmp_path, "copy", "oci-archive:/work/a.oci.tar", "dir:/work/dir")
    (layer,) = json.loads((tmp_path / "dir/manifest.json").read_bytes())["layers"]
    place = f"/work/dir/{layer['digest'].partition(':')[2]}"
    words = ("tar", "--numeric-owner", "--quoting-style=literal", "-tvzf", place)
    lines = run(checkers, tmp_path, *words).decode().splitlines()
    assert len(lines) == len(sample().nodes) + 1
    shown = {line.split(" 00:00 ")[1].rstrip("/").split(" -> ")[0]: line.split()[:3] for line in lines}
    assert shown.keys() == {".", *(node.path for node in sample().nodes)}
    assert shown["bin/su"] == ["-rwsr-xr-x", "0/0", "9004"]
    assert shown["dev/null"] == ["crw-rw-rw-", "0/0", "1,3"]
    assert shown["dev/sda"] == ["brw-rw----", "0/6", "259,300"]
    assert shown["home/kim"] == ["drwx------", "100000/70000", "0"]


def test_other_kinds_of_archives_follow_from_it(image: Path, checkers: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.oci.tar").write_bytes(image.read_bytes())
    to = "docker-archive:/work/docker.tar:kiln:latest"
    skopeo(checkers, tmp_path, "copy", "oci-archive:/work/a.oci.tar", to)
    (described,) = json.loads(members(tmp_path / "docker.tar")["manifest.json"])
    assert described["RepoTags"] == ["docker.io/library/kiln:latest"]


@pytest.mark.parametrize(("architecture", "goarch"), [("aarch64", "arm64"), ("riscv64", "riscv64")])
def test_architectures_have_the_names_of_go(
    architecture: str, goarch: str, image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path
) -> None:
    write(tmp_path / "a.oci.tar", image_sandbox, architecture=architecture)
    assert skopeo(checkers, tmp_path, "inspect", "oci-archive:/work/a.oci.tar")["Architecture"] == goarch


def test_the_image_is_the_same_every_time(image: Path, image_sandbox: Sandbox, tmp_path: Path) -> None:
    umask, processors = os.umask(0o077), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(processors)})
        assert write(tmp_path / "b.tar", image_sandbox).read_bytes() == image.read_bytes()
    finally:
        os.umask(umask)
        os.sched_setaffinity(0, processors)


def test_nothing_in_it_tells_of_this_machine(image: Path) -> None:
    with tarfile.open(image) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (EPOCH, 0, 0, "", "")
            assert member.mode == 0o644 and member.isfile()
    # A gzip header without flags, so without a name, and without a time.
    assert [data[3:8] for data in members(image).values() if data.startswith(b"\x1f\x8b")] == [bytes(5)]


@pytest.mark.parametrize("name", ["", "Board", "a b", "a:b", "a/b", "-a", "a-", "a..b", "ü"])
def test_names_that_readers_would_not_take_are_refused(name: str, image_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"a\.oci\.tar: .* is no name of a container image"):
        write(tmp_path / "a.oci.tar", image_sandbox, name=name)

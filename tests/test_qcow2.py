import os
import random
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import qcow2
from kiln.sandbox import Mount, Sandbox

pytestmark = pytest.mark.sandbox

MIB = 1 << 20


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of text, noise and zeros, some of them holes, that end anywhere within the image's clusters."""
    path, random_ = tmp_path_factory.mktemp("disk") / "disk.img", random.Random(1)
    with path.open("wb") as file:
        for _ in range(200):
            length = random_.choice([3, 512, 4096, 65536, 200_000])
            kind = random_.choice(["text", "noise", "zeros", "hole"])
            if kind == "hole":
                file.seek(length, 1)
            else:
                file.write({"text": b"text" * length, "noise": random_.randbytes(length), "zeros": bytes(length)}[kind])
        file.truncate(-(-file.tell() // MIB) * MIB)
    return path


def write(disk: Path, path: Path, sandbox: Sandbox) -> Path:
    qcow2.write(disk, path, sandbox=sandbox)
    return path


def test_the_checker_finds_what_the_disk_holds(
    disk: Path, image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path
) -> None:
    path = write(disk, tmp_path / "a.qcow2", image_sandbox)
    inside = checkers.with_mounts([Mount(source=disk.parent, target="/inputs"), Mount(source=tmp_path, target="/work")])
    assert b"No errors were found" in inside.run(["qemu-img", "check", "-f", "qcow2", "/work/a.qcow2"])
    words = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", "/inputs/disk.img", "/work/a.qcow2"]
    assert b"Images are identical" in inside.run(words)
    assert b"compression type: zlib" in inside.run(["qemu-img", "info", "/work/a.qcow2"])
    assert path.stat().st_size < disk.stat().st_size / 2


def test_the_image_is_the_same_every_time(disk: Path, image_sandbox: Sandbox, tmp_path: Path) -> None:
    first = write(disk, tmp_path / "a.qcow2", image_sandbox).read_bytes()
    umask, processors = os.umask(0o077), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(processors)})
        (tmp_path / "elsewhere").mkdir()
        # The same bytes, none of them in a hole.
        full = tmp_path / "elsewhere/full.img"
        full.write_bytes(disk.read_bytes())
        assert write(full, tmp_path / "elsewhere/b.qcow2", image_sandbox).read_bytes() == first
    finally:
        os.umask(umask)
        os.sched_setaffinity(0, processors)


def test_an_older_image_leaves_nothing(disk: Path, image_sandbox: Sandbox, tmp_path: Path) -> None:
    first = write(disk, tmp_path / "a.qcow2", image_sandbox).read_bytes()
    (tmp_path / "b.qcow2").write_bytes(b"old" * 40 * MIB)
    assert write(disk, tmp_path / "b.qcow2", image_sandbox).read_bytes() == first


def test_a_disk_that_is_not_there_is_named(image_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"qemu-img: Could not open '/inputs/disk.img'"):
        write(tmp_path / "disk.img", tmp_path / "a.qcow2", image_sandbox)

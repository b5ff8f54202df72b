import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import uki
from kiln.sandbox import Mount, Sandbox
from tests.bzimage import RELEASE, bzimage

pytestmark = pytest.mark.sandbox

OS_RELEASE = 'ID=kiln\nPRETTY_NAME="a test"\n'
CMDLINE = "console=ttyS0 quiet"
INITRD = b"initramfs" * 1000


def write(path: Path, sandbox: Sandbox, *, kernel: Path | None = None, initrd: bytes | None = INITRD) -> Path:
    folder = path.parent / f"{path.name}.scratch"
    folder.mkdir(parents=True)
    given = folder / "initrd.cpio"
    given.write_bytes(initrd or b"")
    uki.write(
        path,
        sandbox=sandbox,
        scratch=folder,
        kernel=kernel or bzimage(folder / "bzImage"),
        initrd=given if initrd else None,
        cmdline=CMDLINE,
        release=OS_RELEASE,
    )
    return path


def inspect(path: Path, sandbox: Sandbox, *words: str) -> str:
    return sandbox.with_mounts([Mount(source=path, target="/tmp/image")]).run([*words, "/tmp/image"]).decode()


def section(path: Path, sandbox: Sandbox, name: str) -> bytes:
    place = path.parent / "section"
    place.touch()
    mounts = [Mount(source=path, target="/tmp/image"), Mount(source=place, target="/tmp/section", writable=True)]
    words = ["objcopy", "--dump-section", f"{name}=/tmp/section", "/tmp/image", "/tmp/copy"]
    sandbox.with_mounts(mounts).run(words)
    return place.read_bytes()


def test_each_part_is_a_section_of_its_own(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.efi", image_sandbox)
    assert section(path, image_sandbox, ".osrel") == OS_RELEASE.encode()
    assert section(path, image_sandbox, ".cmdline") == CMDLINE.encode()
    assert section(path, image_sandbox, ".uname") == RELEASE.encode()
    assert section(path, image_sandbox, ".initrd") == INITRD
    assert section(path, image_sandbox, ".linux") == (tmp_path / "a.efi.scratch/bzImage").read_bytes()


def test_the_sections_lie_apart_on_pages(image_sandbox: Sandbox, tmp_path: Path) -> None:
    listing = inspect(write(tmp_path / "a.efi", image_sandbox), image_sandbox, "objdump", "-h")
    rows = re.findall(r"(?m)^ +\d+ (\S+) +([0-9a-f]+) +([0-9a-f]+)", listing)
    places = sorted((int(address, 16), int(size, 16), name) for name, size, address in rows)
    for (address, size, _), (following, _, _) in pairwise(places):
        assert address + size <= following
    own = [name for address, _, name in places if address % 4096 == 0]
    assert own[-5:] == [".osrel", ".cmdline", ".uname", ".initrd", ".linux"]


def test_it_is_a_program_for_uefi(image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.efi", image_sandbox)
    assert re.search(r"PE32\+ executable .*EFI application.* x86-64", inspect(path, checkers, "file"))
    headers = inspect(path, image_sandbox, "objdump", "-p")
    assert re.search(r"Time/Date\s+Thu Jan +1 00:00:00 2026", headers)


def test_its_checksum_is_computed_as_that_of_the_stub_was(image_sandbox: Sandbox) -> None:
    stub = (image_sandbox.root / "usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
    header = int.from_bytes(stub[0x3C:0x40], "little")
    stamped = bytearray(stub)
    uki.stamp(stamped, 0)
    assert stub[header + 8 : header + 12] == bytes(4)
    assert stamped == stub


def test_there_may_be_no_initramfs(image_sandbox: Sandbox, tmp_path: Path) -> None:
    path = write(tmp_path / "a.efi", image_sandbox, initrd=None)
    assert ".initrd" not in inspect(path, image_sandbox, "objdump", "-h")


def test_it_is_the_same_every_time(image_sandbox: Sandbox, tmp_path: Path) -> None:
    images = []
    for name, mask in (("one", 0o022), ("two", 0o077)):
        umask = os.umask(mask)
        try:
            images.append(write(tmp_path / name / f"{name}.efi", image_sandbox).read_bytes())
        finally:
            os.umask(umask)
    assert images[0] == images[1]


def no_stub(folder: Path) -> Path:
    return bzimage(folder / "bzImage", efi=False)


def other_machine(folder: Path) -> Path:
    (folder / "Image").write_bytes(b"MZ" + bytes(54) + b"ARMd" + bytes(1000))
    return folder / "Image"


@pytest.mark.parametrize("make, problem", [(no_stub, "it has no EFI stub"), (other_machine, "no kernel in the format")])
def test_a_kernel_that_cannot_be_started_so_is_refused(
    make: Callable[[Path], Path], problem: str, image_sandbox: Sandbox, tmp_path: Path
) -> None:
    kernel = make(tmp_path)
    with pytest.raises(KilnError, match=problem) as error:
        write(tmp_path / "a.efi", image_sandbox, kernel=kernel)
    assert error.value.where == os.fspath(kernel) and error.value.hint


def test_a_tree_without_the_stub_is_told(image_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"has no usr/lib/systemd/boot/efi/linuxx64\.efi\.stub") as error:
        write(tmp_path / "a.efi", replace(image_sandbox, root=tmp_path))
    assert error.value.hint and "systemd-boot-efi" in error.value.hint

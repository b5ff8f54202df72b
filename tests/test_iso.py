import os
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.image import iso, menu
from kiln.sandbox import Mount, Sandbox
from tests.bzimage import bzimage

pytestmark = pytest.mark.sandbox

GUID = uuid.UUID("440aa176-97fa-475a-8209-d96eff4a0c90")
MENU = "DEFAULT one\nLABEL one\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n"
INITRD, SQUASHFS = b"initramfs" * 1000, b"hsqs" * 100_000
SCRIPT = "#!ipxe\ndhcp\nchain http://10.0.2.2/boot.ipxe\n"


def write(path: Path, sandbox: Sandbox, label: str = "KILN") -> Path:
    scratch, parts = path.parent / "scratch", path.parent / "parts"
    scratch.mkdir(parents=True)
    parts.mkdir()
    kernel = bzimage(parts / "bzImage")
    (parts / "init.cpio").write_bytes(INITRD)
    (parts / "root.squashfs").write_bytes(SQUASHFS)
    iso.write(
        path,
        sandbox=sandbox,
        scratch=scratch,
        label=label,
        guid=GUID,
        menu=menu.read(MENU, board="pot", cmdline=f"root=live:LABEL={label}", where="extlinux.conf"),
        kernel=kernel,
        initrd=parts / "init.cpio",
        squashfs=parts / "root.squashfs",
    )
    return path


def write_ipxe(path: Path, sandbox: Sandbox, script: str = SCRIPT) -> Path:
    scratch = path.parent / "scratch"
    scratch.mkdir(parents=True)
    iso.write_ipxe(path, sandbox=sandbox, scratch=scratch, guid=GUID, script=script)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, image_sandbox: Sandbox) -> Path:
    return write(tmp_path_factory.mktemp("iso") / "live.iso", image_sandbox)


def inspect(path: Path, sandbox: Sandbox, *words: str) -> str:
    return sandbox.with_mounts([Mount(source=path, target="/tmp/image")]).run(words).decode(errors="replace")


def xorriso(path: Path, sandbox: Sandbox, *words: str) -> str:
    return inspect(path, sandbox, "xorriso", "-no_rc", "-indev", "/tmp/image", *words)


def content(path: Path, sandbox: Sandbox, name: str, folder: Path) -> bytes:
    """A file of the ISO, as another program reads it."""
    folder.mkdir(exist_ok=True)
    mounts = [Mount(source=path, target="/tmp/image"), Mount(source=folder, target="/dest", writable=True)]
    words = ["xorriso", "-no_rc", "-osirrox", "on", "-indev", "/tmp/image", "-extract", f"/{name}", "/dest/file"]
    sandbox.with_mounts(mounts).run(words)
    found = (folder / "file").read_bytes()
    (folder / "file").unlink()
    return found


def test_all_files_are_there(image: Path, checkers: Sandbox, tmp_path: Path) -> None:
    listing = xorriso(image, checkers, "-find", "/", "-type", "f", "-exec", "lsdl", "--")
    rows = [line.split() for line in listing.splitlines() if line.startswith("-")]
    assert {row[-1].strip("'") for row in rows} == {
        "/LiveOS/squashfs.img", "/boot/initramfs", "/boot/linux", "/boot/uefi.img", "/isolinux/isolinux.bin",
        "/isolinux/isolinux.cfg", "/isolinux/ldlinux.c32", "/isolinux/libutil.c32",
        "/isolinux/menu.c32",
    }  # fmt: skip
    assert {tuple(row[2:4]) for row in rows} == {("0", "0")}
    assert {" ".join(row[5:8]) for row in rows} == {"Jan 1 2026"}
    assert content(image, checkers, "LiveOS/squashfs.img", tmp_path / "out") == SQUASHFS
    assert content(image, checkers, "boot/initramfs", tmp_path / "out") == INITRD
    assert content(image, checkers, "isolinux/isolinux.cfg", tmp_path / "out").decode().splitlines() == [
        "DEFAULT one", "LABEL one", "LINUX /boot/linux", "INITRD /boot/initramfs", "APPEND root=live:LABEL=KILN",
    ]  # fmt: skip


def test_both_firmwares_find_what_they_start(image: Path, checkers: Sandbox) -> None:
    report = xorriso(image, checkers, "-report_el_torito", "plain", "-report_system_area", "plain")
    assert re.search(r"boot img : +1 +BIOS +y +none", report)
    assert re.search(r"boot img : +2 +UEFI +y +none", report)
    assert re.search(r"img path : +1 +/isolinux/isolinux.bin", report)
    assert re.search(r"img path : +2 +/boot/uefi.img", report)
    assert "boot-info-table isohybrid-suitable" in report
    assert re.search(r"System area summary: MBR isohybrid .*GPT", report)
    assert re.search(rf"GPT disk GUID +: +{GUID.bytes_le.hex()}", report)


def test_the_partition_for_uefi_has_the_menu_and_the_kernel(image: Path, checkers: Sandbox) -> None:
    report = xorriso(image, checkers, "-report_system_area", "plain")
    found = re.search(r"GPT start and size : +2 +(\d+) +\d+", report)
    assert found
    place = f"/tmp/image@@{int(found[1]) * 512}"
    listing = inspect(image, checkers, "mdir", "-i", place, "-/", "-b", "::").split()
    assert {"::/EFI/BOOT/BOOTX64.EFI", "::/bzImage", "::/init.cpio", "::/loader/entries/01-one.conf"} < set(listing)
    entry = inspect(image, checkers, "mtype", "-i", place, "::/loader/entries/01-one.conf")
    assert "options root=live:LABEL=KILN\n" in entry
    assert "440A-A176" in inspect(image, checkers, "mdir", "-i", place, "::")


def test_other_tools_take_it_for_a_disk_and_a_cd(image: Path, checkers: Sandbox) -> None:
    known = inspect(image, checkers, "file", "/tmp/image")
    assert re.search(r"ISO 9660 CD-ROM filesystem data \(DOS/MBR boot sector\) 'KILN' \(bootable\)", known)
    assert {"LABEL=KILN", "TYPE=iso9660"} < set(
        inspect(image, checkers, "blkid", "-p", "-o", "export", "/tmp/image").splitlines()
    )
    table = inspect(image, checkers, "fdisk", "-l", "/tmp/image")
    assert re.search(r"/tmp/image1 +\* +0 ", table)
    assert re.search(r"/tmp/image2 .* ef EFI \(FAT-12/16/32\)", table)


@pytest.mark.parametrize("kind", [write, write_ipxe])
def test_it_is_the_same_every_time(
    kind: Callable[[Path, Sandbox], Path], image_sandbox: Sandbox, tmp_path: Path
) -> None:
    images = []
    for name, mask in (("one", 0o022), ("two/deep", 0o077)):
        umask = os.umask(mask)
        try:
            images.append(kind(tmp_path / name / f"{name[:2]}.iso", image_sandbox).read_bytes())
        finally:
            os.umask(umask)
    assert images[0] == images[1]


def test_ipxe_gets_its_script_for_an_initramfs(image_sandbox: Sandbox, checkers: Sandbox, tmp_path: Path) -> None:
    path = write_ipxe(tmp_path / "ipxe.iso", image_sandbox)
    assert content(path, checkers, "boot/boot.ipxe", tmp_path / "out").decode() == SCRIPT
    assert content(path, checkers, "boot/ipxe.krn", tmp_path / "out")[0x202:0x206] == b"HdrS"
    config = content(path, checkers, "isolinux/isolinux.cfg", tmp_path / "out").decode()
    assert "KERNEL /boot/ipxe.krn\n" in config and "INITRD /boot/boot.ipxe\n" in config
    uefi = content(path, checkers, "boot/uefi.img", tmp_path / "out")
    (tmp_path / "uefi.img").write_bytes(uefi)
    inside = checkers.with_mounts([Mount(source=tmp_path / "uefi.img", target="/tmp/image")])
    program = inside.run(["mtype", "-i", "/tmp/image", "::/EFI/BOOT/BOOTX64.EFI"])
    assert program.startswith(b"MZ") and b"iPXE" in program


@pytest.mark.parametrize("label", ["", "kiln", "MY KILN", "K" * 33])
def test_a_label_that_no_cd_can_have_is_refused(label: str, image_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="no label"):
        write(tmp_path / "live.iso", image_sandbox, label=label)


def test_a_script_says_what_it_is(image_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="#!ipxe"):
        write_ipxe(tmp_path / "ipxe.iso", image_sandbox, script="dhcp\n")


@pytest.mark.parametrize(
    "missing, package",
    [
        ("usr/lib/ISOLINUX/isolinux.bin", "isolinux"),
        ("usr/lib/ISOLINUX/isohdpfx.bin", "isolinux"),
        ("usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
        ("usr/lib/systemd/boot/efi/systemd-bootx64.efi", "systemd-boot-efi"),
    ],
)
def test_a_tree_that_lacks_a_loader_is_told(missing: str, package: str, image_sandbox: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for path in image_sandbox.root.iterdir():
        (tree / path.name).symlink_to(path)
    place = tree
    for name in missing.split("/")[:-1]:
        place /= name
        real = place.resolve()
        place.unlink()
        place.mkdir()
        for path in real.iterdir():
            (place / path.name).symlink_to(path)
    (tree / missing).unlink()
    with pytest.raises(KilnError, match=f"has no {missing}") as error:
        write(tmp_path / "live.iso", replace(image_sandbox, root=tree))
    assert error.value.hint and package in error.value.hint

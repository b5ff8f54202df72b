"""What is told of an initramfs: of a stranger's what can be seen, of our own who brought each file."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.image import origins
from kiln.image.media import COMPRESSORS
from kiln.initramfs.links import Links
from kiln.initramfs.view import View
from kiln.report import initramfs as report
from kiln.report import profiles
from kiln.sandbox import Sandbox
from kiln.store import Store, Work
from kiln.verbs import initramfs
from tests.console import ROOT
from tests.elf import elf
from tests.initramfs import archive, file, folder, joined, symlink
from tests.project import Project
from tests.test_boot import doit

BOARD = "qemu-x86_64-dracut"
LOADER = "/lib/ld-musl-x86_64.so.1"
HOOKS = "var/lib/dracut/hooks"


def folders(*paths: str) -> list[str]:
    """Every folder that these paths need."""
    found = {os.path.join(*path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    return sorted(found)


def made(path: Path, files: dict[str, bytes], *, gap: bytes = b"") -> Path:
    parts = [folder(name) for name in folders(*files)]
    parts += [file(name, data, mode=0o100755) for name, data in files.items()]
    path.write_bytes(joined([*([gap] if gap else []), gzip.compress(archive(*parts))]))
    return path


def lines(path: Path, notes: dict[str, dict[str, str]]) -> list[str]:
    return list(report.render(path, notes, boots={}))


def test_a_strangers_is_told_by_segment_folder_file_and_kernel_module(tmp_path: Path) -> None:
    early = archive(folder("kernel"), file("kernel/microcode.bin", bytes(5000)))
    files = {"usr/lib/modules/6.1/kernel/fs/xfs.ko.xz": bytes(3000), "usr/lib/modules/6.1/modules.dep": b"a" * 100}
    told = lines(made(tmp_path / "a", files | {"usr/bin/sh": bytes(2000), "init": b"#!/bin/sh\n"}, gap=early), {})
    assert re.fullmatch(r"segment 1  none   2 entries, 5\.6 kB of 5\.6 kB, 100\.0 %", told[0])
    assert re.fullmatch(r"segment 2  gzip   11 entries, \d+ B of 7\.2 kB, \d\.\d %", told[1])
    assert re.fullmatch(rf"{tmp_path}/a: \d\.\d kB, unpacked here in \d\.\d\d s", told[2])
    text = "\n".join(told)
    assert not re.search("by package|by module", text)
    for row in (
        r"by folder +10\.1 kB", r"  /kernel +5\.0 kB +49\.5 %", r"  /usr/lib/modules +3\.1 kB", r"  / +10 B",
        r"files +10\.1 kB", r"  kernel/microcode.bin +5\.0 kB", r"kernel modules +3\.0 kB",
        r"  6\.1/kernel/fs/xfs\.ko\.xz +3\.0 kB +100\.0 %",
    ):  # fmt: skip
        assert re.search(f"(?m)^{row}", text), row


def test_names_of_one_file_count_once(tmp_path: Path) -> None:
    data = archive(file("a", ino=7, nlink=2), file("b", bytes(1000), ino=7, nlink=2))
    (tmp_path / "a").write_bytes(data)
    assert re.search(r"(?m)^files +1\.0 kB", "\n".join(lines(tmp_path / "a", {})))


def test_our_own_is_told_by_package_and_module(tmp_path: Path) -> None:
    path = made(tmp_path / "a", {"usr/bin/lvm": bytes(3000), "usr/bin/sh": bytes(1000), "added": bytes(500)})
    notes = {"modules": {"usr/bin/lvm": "lvm", "usr/bin/sh": "base"}, "packages": {"usr/bin/lvm": "lvm2"}}
    text = "\n".join(lines(path, notes))
    assert re.search(
        r"(?m)^by module of dracut +4\.5 kB\n  lvm +3\.0 kB +66\.7 %\n  base .*\n  added later +500 B", text
    )
    assert re.search(r"(?m)^by package +4\.5 kB\n  lvm2 +3\.0 kB", text)
    assert "by folder" not in text


def test_hooks_are_told_in_the_order_in_which_dracut_runs_them(tmp_path: Path) -> None:
    files = [
        f"{HOOKS}/pre-mount/50-b.sh", f"{HOOKS}/cmdline/99-z.sh", f"{HOOKS}/cmdline/01-a.sh", f"{HOOKS}/cmdline/README",
        f"{HOOKS}/initqueue/settled/x.sh", f"{HOOKS}/mount/99-mount-root.sh", "etc/dracut/hooks/cmdline/01-a.sh",
        "etc/dracut/hooks/cmdline/00-later.sh", "usr/lib/dracut/hooks/mount/10-c.sh",
    ]  # fmt: skip
    view = View.read(made(tmp_path / "a", dict.fromkeys(files, b"")), keep=True)
    found = report.hooks(view)
    assert list(found.items()) == [
        (
            "cmdline",
            [f"/{HOOKS}/cmdline/01-a.sh", f"/{HOOKS}/cmdline/99-z.sh", "/etc/dracut/hooks/cmdline/00-later.sh"],
        ),
        ("initqueue/settled", [f"/{HOOKS}/initqueue/settled/x.sh"]),
        ("pre-mount", [f"/{HOOKS}/pre-mount/50-b.sh"]),
        ("mount", [f"/{HOOKS}/mount/99-mount-root.sh", "/usr/lib/dracut/hooks/mount/10-c.sh"]),
    ]


def test_scripts_of_initramfs_tools_are_told_in_their_order(tmp_path: Path) -> None:
    order = (
        b'/scripts/local-top/zfs "$@"\n[ -e /conf/param.conf ] && . /conf/param.conf\n\n/scripts/local-top/lvm2 "$@"\n'
    )
    files = {"scripts/local-top/ORDER": order, "scripts/init-top/ORDER": b'/scripts/init-top/udev "$@"\n'}
    found = report.hooks(View.read(made(tmp_path / "a", files), keep=True))
    assert list(found.items()) == [
        ("init-top", ["/scripts/init-top/udev"]),
        ("local-top", ["/scripts/local-top/zfs", "/scripts/local-top/lvm2"]),
    ]


def test_a_file_is_of_the_module_after_which_it_was_seen_and_a_library_of_its_users(tmp_path: Path) -> None:
    program = elf(loader=LOADER, needed=["libdm.so", "libc.so"])
    parts = [folder(name) for name in ("lib", "usr", "usr/bin", "usr/lib", "usr/lib/modules", "usr/lib/modules/6.1")]
    parts += [symlink("bin", "usr/bin"), symlink("usr/bin/tool", "real-tool"), file("etc")]
    parts += [
        file(f"lib/{name}", elf(needed=needed), mode=0o100755)
        for name, needed in (("libdm.so", ["libm.so"]), ("libm.so", []), ("libc.so", []), ("libplugin.so", []))
    ]
    parts += [symlink(LOADER[1:], "libc.so"), file("usr/bin/lvm", program), file("usr/bin/sh", elf(loader=LOADER))]
    parts += [file("usr/bin/real-tool"), file("usr/bin/dmsetup", program), file("usr/lib/modules/6.1/xfs.ko")]
    (tmp_path / "a").write_bytes(archive(*parts))
    seen = origins.first_seen(
        line
        for module, paths in {
            "dm": ["usr/bin/real-tool", "usr/bin/dmsetup", "lib/libdm.so", "lib/libm.so", "lib/libc.so"],
            "lvm": ["usr/bin/real-tool", "usr/bin/dmsetup", "usr/bin/lvm", "lib/libplugin.so"],
            "base": ["usr/bin/lvm", "usr/bin/sh"],
        }.items()
        for line in [f"{module} {path}" for path in paths]
    )
    links = Links(view=View.read(tmp_path / "a", keep=True))
    assert origins.modules(links, seen, ["/bin/tool"]) == {
        "usr/bin/real-tool": origins.ITEMS,
        "usr/bin/dmsetup": "dm",
        "usr/bin/lvm": "lvm",
        "usr/bin/sh": "base",
        "lib/libdm.so": origins.SEVERAL,
        "lib/libm.so": origins.SEVERAL,
        "lib/libc.so": origins.SEVERAL,
        "lib/libplugin.so": "lvm",
        "usr/lib/modules/6.1/xfs.ko": origins.DRIVERS,
        "etc": origins.DRACUT,
    }
    only = {path: module for path, module in seen.items() if module == "dm"}
    assert origins.modules(links, only, ["tool"])["lib/libdm.so"] == "dm"


def test_a_file_is_of_the_package_that_has_its_content_or_its_path(tmp_path: Path) -> None:
    links = Links(
        view=View.read(made(tmp_path / "a", {"hook.sh": b"a", "etc/conf": b"edited", "made": b"c"}), keep=True)
    )
    digests = {links.view.files["hook.sh"].digest: "dracut"}
    assert origins.packages(links, {"etc/conf": "udev"}, digests) == {
        "hook.sh": "dracut", "etc/conf": "udev", "made": origins.DRACUT,
    }  # fmt: skip


def test_the_verb_knows_a_result_of_ours_through_its_link(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(work: Work) -> dict[str, Any]:
        made(work.root / "initramfs.cpio.gz", {"usr/bin/lvm": b"x"})
        return {"packages": {"usr/bin/lvm": "lvm2"}, "modules": {"usr/bin/lvm": "lvm"}}

    entry = Store(tmp_path / "store").build("b-initramfs", "1", {"name": "b-initramfs"}, fill)
    (tmp_path / "link").symlink_to(entry.root / "initramfs.cpio.gz")
    initramfs.report(project.graph(), os.fspath(tmp_path / "link"))
    assert re.search(r"by package +1 B\n  lvm2", capsys.readouterr().out)
    shutil.copyfile(tmp_path / "link", tmp_path / "copy")
    initramfs.report(project.graph(), os.fspath(tmp_path / "copy"))
    assert "by package" not in capsys.readouterr().out


def test_the_verbs_say_what_is_missing(project: Project) -> None:
    with pytest.raises(KilnError) as caught:
        initramfs.report(project.graph())
    assert "the initramfs of test is none" in str(caught.value)
    with pytest.raises(KilnError) as caught:
        initramfs.compare(project.graph())
    assert "no initramfs of test was made yet" in str(caught.value)


@pytest.mark.sandbox
def test_profiles_are_packed_by_each_compressor_and_unpacked(tmp_path: Path, image_sandbox: Sandbox) -> None:
    files = {
        "small": made(tmp_path / "small", {"a": os.urandom(1000) * 20}),
        "big": made(tmp_path / "big", {"a": os.urandom(1000) * 90, "b": b""}),
    }
    steps: list[str] = []
    found = profiles.measure(files, image_sandbox, steps.append)
    assert steps == [f"{name} {compressor}" for name in files for compressor in COMPRESSORS]
    small, big = found
    assert {part.entries for part in big.by_compressor.values()} == {2}
    assert {part.unpacked for part in big.by_compressor.values()} == {big.by_compressor["none"].packed}
    assert all(part.packed < 9000 for name, part in big.by_compressor.items() if name != "none")
    assert small.by_compressor["none"].packed < 30000 < big.by_compressor["none"].packed
    told = list(profiles.render(found))
    assert told[0].split() == ["entries", *COMPRESSORS]
    assert re.fullmatch(r"big +2 +90\.\d kB( +\d\.\d kB){4}", told[2])
    assert told[3].split() == ["unpacked", "here", "in", *COMPRESSORS]
    assert re.fullmatch(r"small( +\d\.\d{3} s){5}", told[4])


@pytest.fixture(scope="module")
def real() -> Path:
    """The board's own, and the one that finds every root."""
    doit("initramfs", "initramfs:full", f"BOARD={BOARD}")
    return ROOT / "output" / BOARD


@pytest.mark.boot
def test_every_byte_of_the_real_one_is_of_a_package_and_a_module(real: Path) -> None:
    for name in ("initramfs", "initramfs-full"):
        path = real / f"{name}.cpio.zst"
        notes = json.loads((path.resolve().parent.parent / "stamp.json").read_bytes())["notes"]
        files = {path for path, _ in View.read(path).matching(".*")}
        assert notes["packages"].keys() == notes["modules"].keys() == files
        assert notes["packages"]["usr/bin/lvm"] == "lvm2"
        assert notes["packages"][f"{HOOKS}/cmdline/30-parse-crypt.sh"] == "dracut"
        modules = notes["modules"]
        assert (modules["usr/bin/lvm"], modules["usr/bin/cryptsetup"]) == ("lvm", "crypt")
        assert modules["usr/lib/libcryptsetup.so.12.10.0"] == "crypt"
        assert modules["usr/lib/libc.so"] == origins.SEVERAL
        assert modules[f"{HOOKS}/cmdline/30-parse-lvm.sh"] == "lvm"
        told = (path.resolve().parent.parent / "root").iterdir()
        assert [one.name for one in told] == [path.name]


@pytest.mark.boot
def test_the_real_one_is_told_and_sound(real: Path) -> None:
    text = doit("initramfs:report", f"BOARD={BOARD}")
    assert re.search(r"(?m)^segment 1  zstd   \d{3} entries", text)
    assert re.search(r"(?m)^  cmdline +/var/lib/dracut/hooks/cmdline/01-parse-kernel.sh$", text)
    for name in ("initramfs", "initramfs-full"):
        assert "find all that they need" in doit(
            "initramfs:verify", os.fspath(real / f"{name}.cpio.zst"), f"BOARD={BOARD}"
        )
    assert doit("initramfs:compare", f"BOARD={BOARD}").splitlines()[0].split() == ["entries", *COMPRESSORS]

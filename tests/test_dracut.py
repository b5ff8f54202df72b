"""The initramfs that dracut makes: what is in it, what it refuses, and that it leads to the real root."""

import os
import re
from pathlib import Path

import pytest

from kiln.image.dracut import _lay
from tests.test_boot import BOARD, OWN, copy_to, doit


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return folder


def test_programs_and_libraries_come_into_one_folder_each_and_the_first_wins(tmp_path: Path) -> None:
    first = tree(tmp_path / "a", bin__mount="real", lib__ld="loader", etc__fstab="")
    second = tree(tmp_path / "b", bin__mount="-> busybox", bin__busybox="box", usr__sbin__arp="-> ../../bin/busybox")
    laid = _lay({"first": first, "second": second}, tmp_path / "into")
    assert {path: node.package for path, node in laid.items()} == {
        "etc/fstab": "first",
        "usr/bin/arp": "second",
        "usr/bin/busybox": "second",
        "usr/bin/mount": "first",
        "usr/lib/ld": "first",
    }
    for path, text in {"bin/mount": "real", "sbin/arp": "box", "usr/sbin/arp": "box", "lib/ld": "loader"}.items():
        assert (tmp_path / "into" / path).read_text() == text


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, whose board wants dracut, with all that was built."""
    root = copy_to(tmp_path_factory.mktemp("dracut") / "project", lambda name: True)
    board = root / "configs" / f"{BOARD}.toml"
    board.write_text('initramfs = "dracut"\n' + board.read_text())
    return root


def run(project: Path, *words: str) -> str:
    return doit(*words, root=project, env=OWN | {"PYTHONPATH": os.fspath(project)})


@pytest.fixture(scope="module")
def unpacked(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run(project, "initramfs")
    folder = tmp_path_factory.mktemp("unpacked") / "made"
    run(project, "cpio:unpack", os.fspath(project / f"output/{BOARD}/initramfs.cpio.zst"), os.fspath(folder))
    return folder / "1"


@pytest.mark.boot
def test_every_program_finds_its_loader_and_its_libraries(project: Path) -> None:
    run(project, "initramfs")
    said = re.search(r"(\d+) programs, scripts and libraries find all that they need", run(project, "initramfs:verify"))
    assert said and int(said[1]) > 20


@pytest.mark.boot
def test_it_is_small_and_its_programs_are_the_full_ones(unpacked: Path, project: Path) -> None:
    assert (project / f"output/{BOARD}/initramfs.cpio.zst").stat().st_size < 3 << 20
    assert sum(path.stat().st_size for path in unpacked.rglob("*") if path.is_file() and not path.is_symlink()) < 7e6
    for name in ("mount", "blkid", "switch_root", "kmod", "udevadm"):
        assert not (unpacked / "usr/bin" / name).is_symlink()
    assert os.readlink(unpacked / "usr/bin/ls").endswith("busybox")


@pytest.mark.boot
@pytest.mark.parametrize("road", ["label", "uuid", "uki"])
def test_it_leads_to_the_real_root(project: Path, road: str) -> None:
    assert f"{BOARD} by {road}: all was well" in run(project, f"test:{road}")
    log = (project / f"output/{BOARD}/boot/{road}.log").read_text()
    assert "info root=ext4" in log


@pytest.mark.boot
def test_it_is_the_same_when_made_elsewhere(project: Path) -> None:
    run(project, "initramfs")
    assert "1 of 1 results are the same" in run(project, "repro", "initramfs")


@pytest.mark.boot
@pytest.mark.parametrize(
    ("line", "told", "then"),
    [
        ('add_dracutmodules+=" multipath "', "Module 'multipath' cannot be installed.", "modules.d/*multipath/module-"),
        ('install_items+=" /etc/nosuch "', "installing '/etc/nosuch'", "let a recipe install /etc/nosuch"),
        ("rd.loops.max=8", "wrong.conf:1: rd.loops.max=8: there is no such parameter", ""),
    ],
)
def test_what_dracut_only_complains_of_fails(project: Path, line: str, told: str, then: str) -> None:
    file = project / f"board/{BOARD}/dracut.conf.d/wrong.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{line}\n")
    try:
        with pytest.raises(AssertionError) as caught:
            run(project, "initramfs")
        assert told in str(caught.value)
        assert then in str(caught.value)
        # What our own reading of it finds comes before dracut.
        assert ("output/logs/initramfs.log" in str(caught.value)) == (".conf:1: " not in told)
        assert "Traceback" not in str(caught.value)
    finally:
        file.unlink()


@pytest.mark.boot
def test_what_could_not_do_its_work_is_not_made(project: Path) -> None:
    board = project / "configs" / f"{BOARD}.toml"
    text = board.read_text()
    board.write_text('initramfs_must = ["ext4", "dm_crypt", "/usr/sbin/cryptsetup", "/bin/mount"]\n' + text)
    try:
        with pytest.raises(AssertionError) as caught:
            run(project, "initramfs")
    finally:
        board.write_text(text)
    assert "initramfs: it would not do its work" in str(caught.value)
    missing = re.findall(r"(?m)^ +(\S+): must be in it", str(caught.value))
    assert missing == ["dm_crypt", "/usr/sbin/cryptsetup"]

import gzip
import json
import os
import stat
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.initramfs import packing, segments, sidecar
from kiln.initramfs.folder import unpack
from kiln.initramfs.newc import CRC, Entry
from kiln.trees import EPOCH
from tests.initramfs import END, FILE, PACKERS, Part, archive, device, file, folder, joined, pack, symlink

GIB = 1 << 30

MAIN = (
    folder(".", mtime=11),
    symlink("bin", "usr/bin"),
    folder("dev"),
    device("dev/console", stat.S_IFCHR | 0o600, 5, 1),
    device("dev/sda", stat.S_IFBLK | 0o660),
    folder("etc", mode=stat.S_IFDIR | 0o700, uid=7),
    file("etc/a", b"same", ino=70, nlink=2, mtime=5),
    file("etc/shadow", b"root:*:", mode=stat.S_IFREG | 0o000, mtime=12),
    file("etc/empty"),
    file("etc/zeros", bytes(3_000_000)),
    folder("run"),
    device("run/pipe", stat.S_IFIFO | 0o600),
    device("run/sock", stat.S_IFSOCK | 0o600),
    folder("tmp", mode=stat.S_IFDIR | 0o1777),
    folder("usr"),
    folder("usr/bin"),
    file("usr/bin/su", os.urandom(300_000), mode=stat.S_IFREG | 0o4755, gid=4),
    file("usr/bin/first", ino=71, nlink=3),
    file("usr/bin/second", ino=71, nlink=3),
    file("usr/bin/third", b"linked", ino=71, nlink=3),
    symlink("usr/odd \n\x1b[31m", "/etc/passwd"),
)
EARLY = (folder("kernel", ino=9), file("kernel/x86/code", b"microcode" * 99, nlink=1))


def put(path: Path, *parts: bytes) -> Path:
    path.write_bytes(joined(parts))
    return path


def plain(path: Path) -> list[bytes]:
    """The segments of a file, unpacked."""
    found = []
    for segment in segments.read(path):
        data = b""
        for entry in segment:
            data += pack((entry, b"".join(segment.entries.data())))
        found.append(data + bytes(segment.tail))
    return found


def entries(path: Path, number: int = 0) -> dict[str, Part]:
    found = [
        {entry.name: (entry, b"".join(segment.entries.data())) for entry in segment} for segment in segments.read(path)
    ]
    return found[number]


def round_trip(path: Path, tmp_path: Path, compress: str = "") -> Path:
    unpack(path, tmp_path / "tree", most=GIB)
    again = tmp_path / "again.cpio"
    packing.repack(tmp_path / "tree", again, compress=compress)
    return again


def edited(tmp_path: Path, *parts: Part) -> Path:
    """An unpacked folder to edit; ``tree/1`` is its segment."""
    unpack(put(tmp_path / "a.cpio", archive(*parts)), tmp_path / "tree", most=GIB)
    return tmp_path / "tree/1"


def repacked(tmp_path: Path) -> dict[str, Part]:
    packing.repack(tmp_path / "tree", tmp_path / "b.cpio")
    return entries(tmp_path / "b.cpio")


def test_what_is_unpacked_can_be_read_and_harms_nobody(tmp_path: Path) -> None:
    unpack(put(tmp_path / "a", archive(*EARLY), gzip.compress(archive(*MAIN))), tmp_path / "tree", most=GIB)
    tree = tmp_path / "tree"
    assert sorted(path.name for path in tree.iterdir()) == ["1", "2", "initramfs.json"]
    assert (tree / "1/kernel/x86/code").read_bytes() == b"microcode" * 99
    root = tree / "2"
    assert (root / "usr/bin/su").read_bytes() == MAIN[16][1]
    assert stat.S_IMODE((root / "usr/bin/su").lstat().st_mode) == 0o755
    assert stat.S_IMODE((root / "etc/shadow").lstat().st_mode) == 0o600
    assert stat.S_IMODE((root / "tmp").lstat().st_mode) == 0o777
    assert os.readlink(root / "bin") == "usr/bin"
    assert os.listdir(root / "dev") == os.listdir(root / "run") == []
    assert (root / "usr/bin/first").samefile(root / "usr/bin/third")
    assert (root / "usr/bin/first").read_bytes() == b"linked"
    zeros = (root / "etc/zeros").stat()
    assert zeros.st_size == 3_000_000 and zeros.st_blocks * 512 < 1_000_000
    for path in root.rglob("*"):
        assert path.lstat().st_mode & 0o7000 == 0
        assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "lz4-frame"])
def test_an_unchanged_folder_becomes_the_same_initramfs(tmp_path: Path, name: str) -> None:
    parts = (archive(*EARLY, block=4), PACKERS[name](archive(*MAIN)), bytes(8), PACKERS["xz"](archive(*MAIN[:6])))
    path = put(tmp_path / "a", *parts)
    again = round_trip(path, tmp_path)
    assert plain(again) == plain(path)
    assert [segment.compressor for segment in _gone_through(again)] == ["none", name, "xz"]
    packing.repack(tmp_path / "tree", tmp_path / "third")
    assert again.read_bytes() == (tmp_path / "third").read_bytes()


def _gone_through(path: Path) -> list[segments.Segment]:
    found = []
    for segment in segments.read(path):
        for _ in segment:
            pass
        found.append(segment)
    return found


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((file("init", b"x"), END, *MAIN, END), id="two archives"),
        pytest.param((file("init", b"x", magic=CRC, check=120), (Entry(name="TRAILER!!!", magic=CRC), b"")), id="crc"),
        pytest.param((file("/init", b"x", lower=True, ino=0xABC), file("./b", b"y", lower=True)), id="no trailer"),
        pytest.param((file("init", b"x", namesize=512), END), id="padded name"),
        pytest.param((folder("a"), folder("a", mode=0o40700), file("a/b", b"1"), END), id="a folder twice"),
        pytest.param((file("b/c/d", b"1"), file("b/e", b"1"), END), id="no folders"),
        pytest.param((file("a", b"1", ino=1, nlink=2), END, file("b", b"2", ino=1, nlink=2), END), id="a number twice"),
        pytest.param((file("a", b"one", ino=1, nlink=2), file("b", ino=1, nlink=2), END), id="data first"),
        pytest.param((file("\udcff\udcfe", b"latin"), END), id="no UTF-8"),
    ],
)
def test_what_others_write_comes_out_as_it_was(tmp_path: Path, parts: tuple[Part, ...]) -> None:
    path = put(tmp_path / "a", gzip.compress(pack(*parts) + bytes(12)))
    assert plain(round_trip(path, tmp_path)) == plain(path)


def test_a_folder_that_was_copied_is_still_unchanged(tmp_path: Path) -> None:
    path = put(tmp_path / "a", archive(*MAIN))
    unpack(path, tmp_path / "tree", most=GIB)
    os.system(f"umask 0; cp -r {tmp_path}/tree {tmp_path}/copy")  # without times and hard links
    packing.repack(tmp_path / "copy", tmp_path / "again")
    assert plain(tmp_path / "again") == plain(path)


def test_compressors_are_chosen_for_all_but_the_plain_ones_in_front(tmp_path: Path) -> None:
    path = put(tmp_path / "a", archive(*EARLY), gzip.compress(archive(*MAIN)), archive(*MAIN))
    again = round_trip(path, tmp_path, compress="lz4")
    assert [segment.compressor for segment in _gone_through(again)] == ["none", "lz4", "lz4"]
    assert plain(again) == plain(path)
    with pytest.raises(KilnError, match="no compressor 'rar'"):
        packing.repack(tmp_path / "tree", tmp_path / "b", compress="rar")


def test_lz4_frames_become_what_kernels_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "a", PACKERS["lz4-frame"](archive(*MAIN)))
    again = round_trip(path, tmp_path)
    assert [segment.compressor for segment in _gone_through(again)] == ["lz4"]
    assert "legacy format" in capsys.readouterr().err


def test_edits_are_taken_up_and_nothing_else_changes(tmp_path: Path) -> None:
    root = edited(tmp_path, *MAIN)
    (root / "etc/shadow").write_bytes(b"root:x:")
    (root / "etc/zeros").unlink()
    (root / "usr/new").mkdir()
    (root / "usr/new/tool").write_bytes(b"#!/bin/sh")
    (root / "usr/new/tool").chmod(0o4711)
    (root / "etc/motd").write_text("hello")
    (root / "etc/motd").chmod(0o600)
    (root / "usr/link").symlink_to("new/tool")
    (root / "bin").unlink()
    (root / "bin").symlink_to("/usr/sbin")
    (root / "etc/empty").chmod(0o640)
    before, found = entries(tmp_path / "a.cpio"), repacked(tmp_path)
    changed = {name for name in before if found.get(name) != before[name]}
    assert changed == {"etc/shadow", "etc/zeros", "bin", "etc/empty"}
    entry, data = found["etc/shadow"]
    assert (data, entry.mtime, entry.mode) == (b"root:x:", EPOCH, FILE & ~0o777)
    assert found["bin"][1] == b"/usr/sbin"
    assert found["etc/empty"][0] == Entry(name="etc/empty", mode=stat.S_IFREG | 0o640)
    new = {name: (found[name][0], found[name][1]) for name in found if name not in before}
    assert list(new) == ["etc/motd", "usr/link", "usr/new", "usr/new/tool"]
    assert list(found)[-5:] == [*new, "TRAILER!!!"]
    assert [f"{new[name][0].mode:o}" for name in new] == ["100644", "120777", "40755", "100755"]
    assert all((entry.uid, entry.gid, entry.mtime) == (0, 0, EPOCH) for entry, _ in new.values())
    assert (tmp_path / "b.cpio").stat().st_size % 512 == 0


def test_what_becomes_something_else_stays_in_its_place(tmp_path: Path) -> None:
    root = edited(tmp_path, *MAIN)
    (root / "dev/console").write_text("a file")
    (root / "etc/a").unlink()
    (root / "etc/a").symlink_to("shadow")
    (root / "tmp").rmdir()
    (root / "tmp").write_text("a file, too")
    found = repacked(tmp_path)
    assert list(found) == list(entries(tmp_path / "a.cpio"))
    assert found["dev/console"][1] == b"a file" and found["tmp"][1] == b"a file, too"
    assert (found["etc/a"][0].kind, found["etc/a"][1]) == (stat.S_IFLNK, b"shadow")


LINKED = (file("a", ino=3, nlink=3), file("b", ino=3, nlink=3), file("c", b"old", ino=3, nlink=3))


def test_an_edit_of_one_name_reaches_all_of_them(tmp_path: Path) -> None:
    root = edited(tmp_path, *LINKED)
    (root / "a").write_text("all new")
    found = repacked(tmp_path)
    assert [(found[name][1], found[name][0].ino, found[name][0].nlink) for name in "abc"] == [
        (b"", 3, 3), (b"", 3, 3), (b"all new", 3, 3),
    ]  # fmt: skip


def test_a_name_that_was_replaced_is_a_file_of_its_own(tmp_path: Path) -> None:
    root = edited(tmp_path, *LINKED)
    (root / "c").unlink()
    (root / "c").write_text("new")
    found = repacked(tmp_path)
    assert [(found[name][1], found[name][0].nlink) for name in "abc"] == [(b"", 2), (b"old", 2), (b"new", 1)]
    assert found["a"][0].ino == found["b"][0].ino != found["c"][0].ino


def test_the_last_name_that_stays_has_the_data(tmp_path: Path) -> None:
    root = edited(tmp_path, *LINKED)
    (root / "b").unlink()
    (root / "c").unlink()
    found = repacked(tmp_path)
    assert list(found) == ["a", "TRAILER!!!"]
    assert (found["a"][1], found["a"][0].nlink) == (b"old", 1)


def test_what_an_archive_had_no_folders_for(tmp_path: Path) -> None:
    root = edited(tmp_path, file("usr/lib/a", b"1"), file("opt/b", b"2"))
    (root / "usr/lib/new").write_text("3")
    assert list(repacked(tmp_path)) == ["usr/lib/a", "opt/b", "usr", "usr/lib", "usr/lib/new", "TRAILER!!!"]


def test_segments_come_and_go_with_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack(put(tmp_path / "a", archive(*EARLY), gzip.compress(archive(*MAIN))), tmp_path / "tree", most=GIB)
    os.system(f"rm -r {tmp_path}/tree/1")
    (tmp_path / "tree/10").mkdir()
    (tmp_path / "tree/10/init").write_text("mine")
    packing.repack(tmp_path / "tree", tmp_path / "b")
    assert "tree/1 is gone, and so is its segment" in capsys.readouterr().err
    assert [segment.compressor for segment in _gone_through(tmp_path / "b")] == ["gzip", "none"]
    assert list(entries(tmp_path / "b", 1)) == ["init", "TRAILER!!!"]


def test_the_sidecar_may_be_edited(tmp_path: Path) -> None:
    edited(tmp_path, *MAIN)
    place = tmp_path / "tree" / sidecar.NAME
    value = json.loads(place.read_text())
    rows = value["segments"][0]["entries"]
    assert {"name": "dev/console", "mode": "20600", "nlink": 1, "rmajor": 5, "rminor": 1} in rows
    rows[:] = [row for row in rows if row["name"] != "dev/sda"]
    next(row for row in rows if row["name"] == "etc/shadow")["gid"] = 42
    place.write_text(json.dumps(value))
    found = repacked(tmp_path)
    assert "dev/sda" not in found and found["etc/shadow"][0].gid == 42


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 1', '"format": 2', "format 2 instead of 1"),
        ('"format": 1,', "", "something has no 'format'"),
        ('{"name": "etc/a"', '{"nam": "etc/a"', "unknown key 'nam'"),
        ('"mode": "20600"', '"mode": "rw"', "invalid literal"),
        ('"compressor": "none"', '"compressor": "zip"', "unknown compressor 'zip'"),
        ('"folder": "1"', '"folder": "../1"', "a segment's folder is '../1'"),
        ('"name": "etc/empty"', '"name": "../empty"', "leads outside"),
    ],
)
def test_a_damaged_sidecar(tmp_path: Path, old: str, new: str, message: str) -> None:
    edited(tmp_path, *MAIN)
    place = tmp_path / "tree" / sidecar.NAME
    assert old in place.read_text()
    place.write_text(place.read_text().replace(old, new, 1))
    with pytest.raises(KilnError, match="tree") as found:
        repacked(tmp_path)
    found.match(message)


def test_a_folder_without_a_sidecar(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"initramfs.json: cannot read it: No such file.*\n.*doit cpio:unpack"):
        packing.repack(tmp_path, tmp_path / "a")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((file("../outside", b"x"),), "the name '../outside' leads outside"),
        ((file("a/../../outside", b"x"),), "leads outside"),
        ((symlink("etc", "/tmp"), file("etc/outside", b"x")), "'etc/outside' lies behind the link 'etc'"),
        ((folder("d"), symlink("d", "/tmp"), file("d/outside", b"x")), "lies behind the link 'd'"),
        ((file("f"), file("f/outside", b"x")), "lies behind what is no folder, 'f'"),
        ((file("d/a"), symlink("d", "/tmp"), file("d/outside")), "cannot unpack 'd': Directory not empty"),
        ((symlink("s", "/etc/passwd"), symlink("s/x", "y")), "lies behind the link 's'"),
        ((symlink(".", "/tmp"),), "the root, '.', is not a folder"),
        ((file("/", b"x"),), "the root, '/', is not a folder"),
        ((file("x" * 300, b"x"),), "File name too long"),
        ((symlink("empty", ""),), "cannot unpack 'empty'"),
        (((Entry(name="odd", mode=0o170644), b""),), r"of no known type \(mode 170644\)"),
    ],
)
def test_nothing_is_made_outside_and_nothing_is_left(tmp_path: Path, parts: tuple[Part, ...], message: str) -> None:
    path = put(tmp_path / "a.cpio", archive(*parts))
    with pytest.raises(KilnError, match=r"a\.cpio, segment 1") as found:
        unpack(path, tmp_path / "tree", most=GIB)
    found.match(message)
    assert os.listdir(tmp_path) == ["a.cpio"]


def test_links_are_never_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    victim.chmod(0o640)
    os.utime(victim, (5, 5))
    parts = (
        symlink("a", str(victim)),
        file("a", b"theirs", mode=0o100777),
        file("h", b"1", ino=5, nlink=2),
        symlink("h", str(victim)),
        file("i", b"theirs", ino=5, nlink=2, mode=0o100777),
    )
    unpack(put(tmp_path / "a.cpio", archive(*parts)), tmp_path / "tree", most=GIB)
    assert (victim.read_text(), victim.stat().st_mode & 0o777, victim.stat().st_mtime) == ("mine", 0o640, 5)
    assert not (tmp_path / "tree/1/a").is_symlink() and (tmp_path / "tree/1/i").read_text() == "theirs"
    assert victim.stat().st_nlink == 1


def test_the_last_of_two_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "a", archive(file("a", b"1"), file("b", b"2"), file("a", b"3"), symlink("b", "a")))
    again = round_trip(path, tmp_path)
    assert "'a' comes twice; the last one is kept" in capsys.readouterr().err
    assert [(name, data) for name, (_, data) in entries(again).items()] == [
        ("a", b"3"),
        ("b", b"a"),
        ("TRAILER!!!", b""),
    ]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    path = put(tmp_path / "a", archive(file("a")))
    tree = tmp_path / "tree"
    tree.mkdir()
    unpack(path, tree, most=GIB)
    for place, message in ((tree, "is not empty"), (path, "is there already")):
        with pytest.raises(KilnError, match=message):
            unpack(path, place, most=GIB)


def test_too_much_is_refused_before_it_is_written(tmp_path: Path) -> None:
    path = put(tmp_path / "bomb", gzip.compress(pack(file("zeros", bytes(50_000_000)))))
    with pytest.raises(KilnError, match=r"bomb: unpacks to more than 40\.0 MB\n.*name a limit"):
        unpack(path, tmp_path / "tree", most=40_000_000)
    many = put(tmp_path / "many", archive(*(file(str(number)) for number in range(2000))))
    with pytest.raises(KilnError, match=r"unpacks to more than 4\.1 MB"):
        unpack(many, tmp_path / "tree", most=4_100_000)
    assert not (tmp_path / "tree").exists()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    edited(tmp_path, *MAIN)
    (tmp_path / "taken").mkdir()
    with pytest.raises(KilnError, match="taken: is a folder"):
        packing.repack(tmp_path / "tree", tmp_path / "taken")
    with pytest.raises(KilnError, match="no/file: cannot write it: No such file"):
        packing.repack(tmp_path / "tree", tmp_path / "no/file")
    assert sorted(os.listdir(tmp_path)) == ["a.cpio", "taken", "tree"]

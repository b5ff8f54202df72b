"""What a kernel would see in the end, and the verbs that show it."""

import gzip
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.initramfs.view import View
from kiln.verbs import cpio
from tests.initramfs import END, PACKERS, Part, archive, device, file, folder, joined, pack, symlink

# The verbs need no board.
BOARD: Any = None
BASE = (
    folder("."), folder("etc", mode=0o40700, uid=5), file("etc/motd", b"old"), folder("usr"), folder("usr/bin"),
    symlink("bin", "usr/bin"), file("usr/bin/sh", b"shell", mode=0o100755), device("null", stat.S_IFCHR | 0o666),
)  # fmt: skip


def view(tmp_path: Path, *segments: bytes) -> View:
    (tmp_path / "a").write_bytes(joined(segments))
    return View.read(tmp_path / "a")


def files(found: View) -> dict[str, int | str]:
    return {node.path: node.target or node.size for node in found.nodes()}


def test_later_entries_win_through_links_too(tmp_path: Path) -> None:
    found = view(tmp_path, archive(*BASE), gzip.compress(archive(file("bin/sh", b"other shell"), file("etc/motd"))))
    assert files(found) == {
        "bin": "usr/bin", "etc": 0, "etc/motd": 0, "null": 0, "usr": 0, "usr/bin": 0, "usr/bin/sh": 11,
    }  # fmt: skip
    assert found.files["usr/bin/sh"].entry.mode == 0o100644
    assert found.has_folder("bin") and found.has_folder("dev") and not found.has_folder("null")
    assert (found.lost, found.compressor) == ([], "gzip")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((file("a", b"1"), symlink("a", "b")), {"a": "b"}),
        ((symlink("a", "b"), file("a", b"1")), {"a": 1}),
        ((folder("a"), file("a", b"1")), {"a": 1}),
        ((folder("a"), file("a/b", b"1"), symlink("a", "x")), {"a": 0, "a/b": 1}),
        ((file("no/folder", b"1"),), {}),
        (
            (file("root/.profile", b"1"), file("/abs", b"12"), file("./rel/../up", b"123")),
            {"root/.profile": 1, "abs": 2},
        ),
        ((symlink("a", "b"), symlink("b", "a"), file("a/x")), {"a": "b", "b": "a"}),
        ((folder("d"), symlink("d/up", ".."), file("d/up/x", b"1")), {"d": 0, "d/up": "..", "x": 1}),
    ],
)
def test_what_stands_in_each_others_way(
    tmp_path: Path, parts: tuple[Part, ...], expected: dict[str, int | str]
) -> None:
    assert files(view(tmp_path, archive(*parts))) == expected


def test_names_of_one_file_share_what_is_written(tmp_path: Path) -> None:
    first, second = file("a", ino=3, nlink=2), file("b", b"data", ino=3, nlink=2)
    assert files(view(tmp_path, archive(first, second))) == {"a": 4, "b": 4}
    # A trailer ends what belongs together; the same numbers mean another file then.
    assert files(view(tmp_path, pack(first, END, second))) == {"a": 0, "b": 4}
    # A later file of the same name is written into the one that is there.
    assert files(view(tmp_path, archive(first, second), archive(file("a", b"longer", ino=9)))) == {"a": 6, "b": 6}


def test_what_kernels_leave_out_is_told(tmp_path: Path) -> None:
    found = view(tmp_path, archive(file("no/folder"), folder("d"), file("d/x"), file("d")))
    assert found.lost == ["no/folder: there is no folder for it", "d: a folder that is not empty is in its place"]


@pytest.mark.parametrize("name", PACKERS)
def test_an_appended_file_wins_and_the_rest_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.write_bytes(PACKERS[name](archive(*BASE)))
    (tmp_path / "motd").write_text("new text")
    (tmp_path / "tree/etc/rc").mkdir(parents=True)
    (tmp_path / "tree/etc/rc/start").write_text("#!/bin/sh")
    (tmp_path / "tree/etc/rc/start").chmod(0o700)
    (tmp_path / "tree/etc/empty").mkdir()
    words = [str(base), f"{tmp_path}/motd:/etc/motd", f"{tmp_path}/tree", f"{tmp_path}/motd:srv/www/motd", str(out)]
    cpio.append(BOARD, *words)
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "/etc/empty", "/etc/motd", "/etc/rc", "/etc/rc/start", "/srv", "/srv/www", "/srv/www/motd",
    ]  # fmt: skip
    assert out.read_bytes().startswith(base.read_bytes())
    before, after = View.read(base), View.read(out)
    assert after.files["etc"].entry == before.files["etc"].entry  # a folder that is there stays as it is
    assert files(after)["etc/motd"] == files(after)["srv/www/motd"] == 8
    assert after.files["etc/rc/start"].entry.mode == 0o100755
    assert not after.lost


def test_an_appended_segment_may_be_compressed(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.write_bytes(archive(*BASE))
    cpio.append(BOARD, str(base), f"{base}:copy", str(out), compress="xz")
    assert View.read(out).compressor == "xz"
    cpio.append(BOARD, str(out), f"{base}:copy", str(out))  # in place
    assert View.read(out).compressor == "none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), r"name a file\n  doit cpio:append FILE WHAT"),
        (("a", "b"), r"2 words are too few"),
        (("base", "nothing", "out"), r"nothing: there is no such file or folder"),
        (("base", "base:../x", "out"), r"leads outside"),
        (("base", "tree", "out"), r"tree: is an unpacked initramfs"),
    ],
)
def test_what_cannot_be_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base").write_bytes(archive(*BASE))
    Path("tree").mkdir()
    Path("tree/initramfs.json").write_text("{}")
    with pytest.raises(KilnError, match=message):
        cpio.append(BOARD, *words)
    assert not Path("out").exists()


def test_two_are_compared_by_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(archive(*BASE))
    b.write_bytes(joined([gzip.compress(archive(*BASE)), archive(file("etc/motd", b"new"), file("\x1b[31m", b"1"))]))
    cpio.diff(BOARD, str(a), str(b))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["+ /\\x1b[31m file 1 B", "~ /etc/motd content (3 B)"]
    assert lines[-1].startswith("root file system: 1 added, 1 changed")
    cpio.diff(BOARD, str(a), str(a))
    assert "hold the same: 7 paths" in capsys.readouterr().out


def test_a_list_names_everything_by_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a"
    path.write_bytes(archive(file("kernel\n\x1b]0;", b"1")) + gzip.compress(archive(*BASE, file("ü", uid=99))))
    cpio.list_(BOARD, str(path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "segment 1 at byte 0: none",
        "-rw-r--r--   1     0     0          1 1970-01-01 00:00 kernel\\n\\x1b]0;",
        "segment 1: 1 entry, 512 B",
    ]
    assert lines[3] == "segment 2 at byte 512: gzip"
    assert "crw-rw-rw-   1     0     0       1, 3 1970-01-01 00:00 null" in lines
    assert "lrwxrwxrwx   1     0     0          7 1970-01-01 00:00 bin -> usr/bin" in lines
    assert "-rw-r--r--   1    99     0          0 1970-01-01 00:00 ü" in lines
    assert lines[-2].startswith("segment 2: 9 entries, ") and lines[-2].endswith("unpacked 1.5 kB")
    assert lines[-1].startswith(f"{path}: 10 entries in 2 segments, ")


def test_who_stops_reading_a_list_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(archive(*(file(str(number)) for number in range(3000))))
    program = f"from kiln.verbs import cpio; cpio.list_(None, {str(path)!r})"
    words = ["bash", "-o", "pipefail", "-c", f'{sys.executable} -c "{program}" | head -n 1']
    run = subprocess.run(words, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "segment 1 at byte 0: none\n", "")


def test_an_initramfs_goes_through_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_bytes(gzip.compress(archive(*BASE, file("zeros", bytes(9000)))))
    with pytest.raises(KilnError, match=r"more than 8\.2 kB"):
        cpio.unpack(BOARD, "a", "tree", "8K")
    with pytest.raises(KilnError, match=r"'8k' is no size"):
        cpio.unpack(BOARD, "a", "tree", "8k")
    cpio.unpack(BOARD, "a", "tree")
    assert capsys.readouterr().out.splitlines() == [
        "tree/1: 9 entries, gzip", "owners, devices and times are in tree/initramfs.json",
    ]  # fmt: skip
    cpio.repack(BOARD, "tree", "b", compress="zstd")
    cpio.diff(BOARD, "a", "b")
    assert "hold the same" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [cpio.list_, cpio.unpack, cpio.repack, cpio.diff])
def test_each_verb_says_how_it_is_called(verb: Any) -> None:
    with pytest.raises(KilnError, match=r"name a file\n  doit cpio:"):
        verb(BOARD)
    with pytest.raises(KilnError, match=r"9 words are too many\n  doit cpio:"):
        verb(BOARD, *"abcdefghi")

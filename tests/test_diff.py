"""What `doit diff` says of two images."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from kiln import digest
from kiln.errors import KilnError
from kiln.image.manifest import Manifest, Node, file_node
from kiln.report.diff import compare, read, render
from kiln.settings import Settings
from tests.project import Project

SHELL = file_node("bin/sh", b"one", package="busybox", mode=0o755)
LINK = Node(path="bin/ls", kind="symlink", mode=0o777, package="busybox", target="sh")
TTY = Node(path="dev/tty", kind="char", mode=0o600, package="board", device=(5, 0))
ALL = (SHELL, LINK, TTY)


def image(folder: Path, nodes: Iterable[Node], **files: bytes) -> str:
    """A folder as an image's target leaves it."""
    folder.mkdir(parents=True)
    rows = b",\n".join(digest.canonical(row) for row in Manifest.merge([(n.package, [n]) for n in nodes]).to_json())
    sums = ""
    for name, data in {"manifest.json": b"[\n" + rows + b"\n]\n", **files}.items():
        (folder / name).write_bytes(data)
        sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(sums)
    return os.fspath(folder)


def diff(before: str, after: str, root: Path) -> list[str]:
    settings = Settings.read(root, {})
    return list(render(read(before, settings), read(after, settings)))


def words(old: Node, new: Node) -> str:
    return str(*compare({old.path: old}, {new.path: new}))


def test_lines_are_aligned_and_the_last_one_sums_up(tmp_path: Path) -> None:
    before = image(tmp_path / "a", ALL, bzImage=b"kernel")
    grown = file_node("bin/sh", b"x" * 2000, package="busybox", mode=0o4755)
    tool = file_node("usr/bin/tool", b"12345", package="tool")
    after = image(tmp_path / "b", [grown, LINK, tool], bzImage=b"kernel two")
    assert diff(before, after, tmp_path) == [
        "- board    /dev           dir",
        "- board    /dev/tty       char 5:0, mode 0600",
        "~ busybox  /bin/sh        content (3 B -> 2.0 kB), mode 0755 -> 4755",
        "+ tool     /usr           dir",
        "+ tool     /usr/bin       dir",
        "+ tool     /usr/bin/tool  file 5 B",
        "~ (image)  bzImage        content (6 B -> 10 B)",
        "root file system: 3 added, 2 removed, 1 changed, +2.0 kB, 3 B -> 2.0 kB; image files: 1 changed, +4 B",
    ]


def test_equal_images_take_one_line(tmp_path: Path) -> None:
    before, after = image(tmp_path / "a", ALL, bzImage=b"kernel"), image(tmp_path / "b", ALL, bzImage=b"kernel")
    assert diff(before, after, tmp_path) == [f"{before} and {after} hold the same: 5 paths, 3 B; image files: 1"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (SHELL, file_node("bin/sh", b"two", package="busybox", mode=0o755), "content (3 B)"),
        (SHELL, file_node("bin/sh", b"one", package="toybox", mode=0o755), "package busybox -> toybox"),
        (SHELL, Node(path="bin/sh", kind="symlink", mode=0o777, package="busybox", target="ash"),
         "type file 3 B -> symlink ash"),
        (LINK, Node(path="bin/ls", kind="symlink", mode=0o777, package="busybox", target="ash"), "target sh -> ash"),
        (TTY, Node(path="dev/tty", kind="char", mode=0o660, gid=5, package="board", device=(5, 1)),
         "target 5:0 -> 5:1, mode 0600 -> 0660, owner 0:0 -> 0:5"),
        (Node(path="run", kind="dir", mode=0o755, package="a"), Node(path="run", kind="fifo", mode=0o600, package="a"),
         "type dir -> fifo, mode 0755 -> 0600"),
    ],
)  # fmt: skip
def test_a_change_says_what_changed(old: Node, new: Node, said: str) -> None:
    assert words(old, new) == said


def test_sizes_that_look_alike_are_told_in_bytes() -> None:
    old, new = (file_node("big", b"x" * size, package="a") for size in (1_000_001, 1_000_002))
    assert words(old, new) == "content (1000001 -> 1000002 B)"


def test_many_changes_are_summed_by_package(tmp_path: Path) -> None:
    more = [file_node(f"lib/{index:04}", b"x" * index, package=f"p{index % 3}") for index in range(3000)]
    lines = diff(image(tmp_path / "a", ALL), image(tmp_path / "b", [*ALL, *more]), tmp_path)
    assert sum(line.startswith("+ ") for line in lines) == 3001
    assert lines[-4:-1] == ["p0  1001 added, +1.5 MB", "p1  1000 added, +1.5 MB", "p2  1000 added, +1.5 MB"]
    assert lines[-1] == "root file system: 3001 added, +4.5 MB, 3 B -> 4.5 MB"


def test_names_cannot_command_the_terminal(tmp_path: Path) -> None:
    evil = file_node("\x1b[2J\n+ fake", b"", package="a")
    lines = diff(image(tmp_path / "a", ALL), image(tmp_path / "b", [*ALL, evil]), tmp_path)
    assert lines[0] == r"+ a  /\x1b[2J\n+ fake  file 0 B"
    assert len(lines) == 2


def test_every_way_to_name_an_image(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    store = project.root / "output/store/entry"
    image(store, ALL, bzImage=b"kernel")
    output = project.root / "output/test"
    output.mkdir()
    for file in store.iterdir():
        (output / file.name).symlink_to(os.path.relpath(file, output))
    settings = Settings.read(project.root, {})
    for place in ("test", "output/test", "output/test/", "output/test/bzImage", os.fspath(output)):
        found = read(place, settings)
        assert found.place == place
        assert found.nodes["bin/sh"] == Node(**{**vars(SHELL), "content": None})
        assert found.nodes["dev/tty"].device == (5, 0)
        assert found.files is not None and found.files["bzImage"].size == 6 and list(found.files) == ["bzImage"]
    assert read("output/test/manifest.json", settings).files is None


def test_a_manifest_alone_compares_root_file_systems(tmp_path: Path) -> None:
    before = image(tmp_path / "a", ALL, bzImage=b"kernel")
    after = image(tmp_path / "b", [*ALL, file_node("new", b"x", package="a")], bzImage=b"another")
    lines = diff(before, f"{after}/manifest.json", tmp_path)
    assert lines[1:] == [
        f"{after}/manifest.json tells of no other files, so the root file systems alone were compared",
        "root file system: 1 added, +1 B, 3 B -> 4 B",
    ]


def test_what_is_not_there_names_the_nearest(project: Project, tmp_path: Path) -> None:
    settings = Settings.read(project.root, {})
    kept = Path(image(tmp_path / "monday", ALL))
    with pytest.raises(KilnError, match=r"no board, folder or image 'tst'\n  did you mean test"):
        read("tst", settings)
    with pytest.raises(KilnError, match=r"'.*/mondy'\n  did you mean monday"):
        read(os.fspath(kept.with_name("mondy")), settings)
    with pytest.raises(KilnError, match=r"'no/such'\n  known: none"):
        read("no/such", settings)
    with pytest.raises(KilnError, match=r"/manifst.json'\n  did you mean manifest.json"):
        read(f"{kept}/manifst.json", settings)
    with pytest.raises(KilnError, match=r"output/test: no image of test was built\n  doit image BOARD=test"):
        read("test", settings)


def test_what_is_no_image(project: Project, tmp_path: Path) -> None:
    settings = Settings.read(project.root, {})
    folder = Path(image(tmp_path / "a", ALL, bzImage=b"kernel"))
    (folder / "notes.txt").write_text("mine")
    for place in (folder / "notes.txt", project.root / "dodo.py"):
        with pytest.raises(KilnError, match=r"is no image, or has no manifest beside it\n  name a board, a folder"):
            read(os.fspath(place), settings)
    with pytest.raises(KilnError, match=r"packages: has no manifest.json\n  name a board, a folder"):
        read(os.fspath(project.root / "packages"), settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"path": "bin", "type"', "Expecting ':' delimiter"),
        ("", "Expecting value"),
        ("\0\x01\udcff", "codec can't decode"),
        ("[" * 100_000, "recursion"),
        ('{"path": "bin"}', "it is not a list of paths"),
        ('[{"path": "bin", "type": "dir"}]', "a path has no 'mode'"),
        ('[{"path": "bin", "type": "socket"}]', "unknown type 'socket'"),
        ('[{"path": 7, "type": "fifo", "mode": "0644", "uid": 0, "gid": 0, "package": "a"}]', "split"),
        ('[{"path": "../x", "type": "fifo", "mode": "0644", "uid": 0, "gid": 0, "package": "a"}]', "not a path"),
        ("[null]", "not subscriptable"),
    ],
)
def test_a_damaged_manifest(tmp_path: Path, text: str, said: str) -> None:
    folder = Path(image(tmp_path / "a", ALL))
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(KilnError, match=f"manifest.json: is not a whole manifest: .*{re.escape(said)}"):
        read(os.fspath(folder), Settings.read(tmp_path, {}))


def test_links_that_were_copied_without_their_files(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path, {})
    for name in ("bzImage", "manifest.json", "SHA256SUMS"):
        folder = Path(image(tmp_path / name, ALL, bzImage=b"kernel"))
        (folder / name).unlink()
        (folder / name).symlink_to("../gone")
        with pytest.raises(KilnError, match=rf"{name}: (No such file|cannot read it).*\n  copy images with `cp -rL`"):
            read(os.fspath(folder), settings)


def test_damaged_checksums(tmp_path: Path) -> None:
    folder = Path(image(tmp_path / "a", ALL))
    (folder / "SHA256SUMS").write_text("1234  bzImage\n")
    with pytest.raises(KilnError, match=r"SHA256SUMS: '1234  bzImage' is not a checksum and a name"):
        read(os.fspath(folder), Settings.read(tmp_path, {}))

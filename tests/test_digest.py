import os
import socket
from pathlib import Path

import pytest

from kiln import digest

# Computed by encoding the `Directory` messages with the protobuf library.
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ONE_FILE = "eaa4ec3b76b5664fbec8eaa0f03b1464374effac2e39b91813255208589ffa20"
TREE = "1f7217fc373f4be49920aed6b3652347f74c032bf6ea9bbe06b5930e8604caf9"


def make_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One of everything: files, a big and an empty one, a program, links, and an empty folder."""
    root = tmp_path / "tree"
    make_file(root / "README", b"hello\n")
    make_file(root / "big", bytes(70000))
    make_file(root / "ümlaut", b"x")
    make_file(root / "bin/empty", b"")
    make_file(root / "bin/run", b"#!/bin/sh\n", 0o755)
    (root / "bin/up").symlink_to("../README")
    (root / "broken").symlink_to("/nowhere")
    (root / "void").mkdir()
    return root


def test_an_empty_folder(tmp_path: Path) -> None:
    assert digest.of_tree(tmp_path) == digest.Digest(EMPTY, 0)


def test_one_file(tmp_path: Path) -> None:
    make_file(tmp_path / "a", b"hello\n")
    assert digest.of_tree(tmp_path) == digest.Digest(ONE_FILE, 75)


def test_a_tree_of_everything(tree: Path) -> None:
    assert digest.of_tree(tree) == digest.Digest(TREE, 414)


def test_the_order_in_which_files_were_made_does_not_matter(tmp_path: Path) -> None:
    names = [f"{folder}/{name}" for folder in "zab" for name in ("B", "a", "ü", "a-b", "a.b")]
    for root, ordered in ((tmp_path / "one", names), (tmp_path / "two", reversed(names))):
        for name in ordered:
            make_file(root / name, name.encode())
    assert digest.of_tree(tmp_path / "one") == digest.of_tree(tmp_path / "two")


def test_times_owners_and_other_permissions_do_not_matter(tree: Path) -> None:
    for path in (tree / "README", tree / "bin", tree / "broken"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (tree / "README").chmod(0o640)
    (tree / "bin/run").chmod(0o500)
    (tree / "void").chmod(0o700)
    if os.geteuid() == 0:
        os.chown(tree / "README", 1234, 1234)
    assert digest.of_tree(tree).hash == TREE


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "README").write_bytes(b"hallo\n"),
        lambda tree: (tree / "README").chmod(0o755),
        lambda tree: (tree / "bin/run").chmod(0o644),
        lambda tree: (tree / "README").rename(tree / "readme"),
        lambda tree: relink(tree / "broken", "/elsewhere"),
        lambda tree: (tree / "void").rmdir(),
        lambda tree: (tree / "bin/empty").unlink(),
    ],
    ids=["bytes", "executable", "not executable", "name", "link", "folder gone", "file gone"],
)
def test_all_else_matters(tree: Path, change: object) -> None:
    assert callable(change)
    change(tree)
    assert digest.of_tree(tree).hash != TREE


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    make_file(tmp_path / "one/a", b"x")
    make_file(tmp_path / "outside", b"1")
    (tmp_path / "one/link").symlink_to("../outside")
    before = digest.of_tree(tmp_path / "one")
    make_file(tmp_path / "outside", b"2")
    assert digest.of_tree(tmp_path / "one") == before


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.fspath(path))


@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
def test_what_a_tree_cannot_hold_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "odd")
    with pytest.raises(ValueError, match="odd is neither a file, a folder nor a link"):
        digest.of_tree(tmp_path)


def test_a_file_and_its_bytes_have_one_digest(tmp_path: Path) -> None:
    make_file(tmp_path / "a", b"hello\n")
    hashed = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert digest.of_file(tmp_path / "a") == digest.of_bytes(b"hello\n") == digest.Digest(hashed, 6)


def test_equal_values_have_equal_digests() -> None:
    assert digest.canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'.encode()
    assert digest.of_value({"b": 1, "a": 2}) == digest.of_value({"a": 2, "b": 1})
    assert digest.of_value({"a": 1}) != digest.of_value({"a": "1"})
    assert digest.of_value([1, 2]) != digest.of_value([2, 1])
    assert digest.of_value({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

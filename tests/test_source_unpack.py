import bz2
import gzip
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln.digest import of_tree
from kiln.errors import KilnError
from kiln.source.unpack import normalise, unpack
from tests.servers import member, tarball
from tests.test_tools import deb

SYMLINK, HARD_LINK, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE

PACKERS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]


def unpacked(tmp_path: Path, data: bytes) -> Path:
    archive = tmp_path / "x.tar"
    archive.write_bytes(data)
    unpack(archive, tmp_path / "in/to")
    return tmp_path / "in/to"


def tree(root: Path) -> list[str]:
    return sorted(os.fspath(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("pack", PACKERS)
def test_each_compression_is_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    root = unpacked(tmp_path, pack(tarball(member("top/a", "text"), member("top/b/c", "more"))))
    assert tree(root) == ["a", "b", "b/c"]
    assert (root / "b/c").read_text() == "more"


def test_of_a_debian_package_it_is_what_that_installs(tmp_path: Path) -> None:
    hard_link = ("./usr/c", {"type": HARD_LINK, "linkname": "./lib/b"}, b"")
    root = unpacked(tmp_path, deb(("./etc/a", {}, b"a"), ("./lib/b", {"mode": 0o755}, b"b"), hard_link))
    assert tree(root) == ["etc", "etc/a", "lib", "lib/b", "usr", "usr/c"]
    assert (root / "usr/c").read_text() == "b"


@pytest.mark.parametrize(("keep", "why"), [(0.03, "holds no data.tar.xz"), (0.9, "damaged")])
def test_a_truncated_debian_package_is_an_error(tmp_path: Path, keep: float, why: str) -> None:
    data = deb(("./a", {}, os.urandom(2000)))
    with pytest.raises(KilnError, match=rf"x\.tar: .*{why}"):
        unpacked(tmp_path, data[: int(len(data) * keep)])


def test_the_one_leading_folder_is_stripped_even_if_what_it_holds_has_its_name(tmp_path: Path) -> None:
    root = unpacked(tmp_path, tarball(member("./top", type=FOLDER), member("./top/top", "text"), member("top/x/y")))
    assert tree(root) == ["top", "x", "x/y"]


@pytest.mark.parametrize("second", ["other/b", "b"])
def test_several_leading_names_stay(tmp_path: Path, second: str) -> None:
    root = unpacked(tmp_path, tarball(member("top/a"), member(second)))
    assert {"top/a", second} <= set(tree(root))


def test_a_lone_file_stays(tmp_path: Path) -> None:
    assert tree(unpacked(tmp_path, tarball(member("a", "text")))) == ["a"]


def test_modes_are_those_that_git_knows(tmp_path: Path) -> None:
    root = unpacked(tmp_path, tarball(member("t/a", mode=0o6775), member("t/b", mode=0o600), member("t/c", mode=0o674)))
    assert [(root / name).stat().st_mode & 0o7777 for name in "abc"] == [0o755, 0o644, 0o644]


def test_links_inside_are_kept_and_hard_links_become_files_of_their_own(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path,
        tarball(
            member("t/d/up", type=SYMLINK, link="../a"),
            member("t/d/again", type=HARD_LINK, link="t/d/up"),
            member("t/a", "text", mode=0o755),
            member("t/hard", type=HARD_LINK, link="t/a"),
            member("t/loop", type=SYMLINK, link="loop"),
        ),
    )
    assert os.readlink(root / "d/up") == os.readlink(root / "d/again") == "../a"
    (root / "hard").write_text("changed")
    assert (root / "d/up").read_text() == "text"
    assert os.access(root / "hard", os.X_OK)


def test_the_last_of_two_members_of_one_name_wins(tmp_path: Path) -> None:
    root = unpacked(tmp_path, tarball(member("t/a", type=SYMLINK, link="b"), member("t/a", "1"), member("t/a", "2")))
    assert (root / "a").read_text() == "2"
    assert not (root / "a").is_symlink()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("/etc/evil")], "/etc/evil has an absolute name"),
        ([member("t/../../evil")], "t/../../evil has '..' in its name"),
        ([member("t/a", type=SYMLINK, link="/etc/passwd")], "a is a link that leads outside, to /etc/passwd"),
        ([member("t/a", type=SYMLINK, link="../evil")], "a is a link that leads outside, to ../evil"),
        (
            [member("t/d/e/x"), member("t/up", type=SYMLINK, link="d/.."), member("t/a", type=SYMLINK, link="up/..")],
            "a is a link that leads outside, to up/..",
        ),
        ([member("t/a", type=HARD_LINK, link="../outside")], "../outside has '..' in its name"),
        ([member("t/a", type=HARD_LINK, link="/etc/passwd")], "/etc/passwd has an absolute name"),
        ([member("t/a", type=HARD_LINK, link="t/none")], "cannot unpack t/a"),
        ([member("t/a", type=tarfile.CHRTYPE)], "t/a is not a file, a folder or a link"),
        ([member("t/a", type=tarfile.FIFOTYPE)], "t/a is not a file, a folder or a link"),
        ([member("t/a", type=SYMLINK, link="../.."), member("t/a/evil", "x")], "cannot unpack"),
        ([member("t/a", "x"), member("t/a/b", "x")], "cannot unpack t/a/b"),
    ],
)
def test_what_reaches_outside_or_contradicts_itself_is_refused(tmp_path: Path, members: list[bytes], why: str) -> None:
    (tmp_path / "outside").write_text("secret")
    with pytest.raises(KilnError) as caught:
        unpacked(tmp_path, tarball(*members, member("t/z")))
    assert why in str(caught.value)
    assert f"{tmp_path}/x.tar" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["in", "outside", "x.tar"]
    assert os.listdir(tmp_path / "in") == ["to"]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_truncated_archive_is_an_error(tmp_path: Path, pack: Callable[[bytes], bytes], keep: float) -> None:
    text = os.urandom(2000).hex()
    data = pack(b"".join(member(f"t/{number}", text) for number in range(20)))
    with pytest.raises(KilnError, match=r"x\.tar: "):
        unpacked(tmp_path, data[: int(len(data) * keep)])


def test_an_archive_that_stops_between_two_members_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="damaged"):
        unpacked(tmp_path, member("t/a", "text") + member("t/b", "text"))


def test_a_damaged_header_in_the_middle_is_an_error(tmp_path: Path) -> None:
    data = bytearray(tarball(member("t/a", "text"), member("t/b", "text")))
    data[1024] ^= 1
    with pytest.raises(KilnError, match="damaged"):
        unpacked(tmp_path, bytes(data))


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, b"\x28\xb5\x2f\xfd damaged"])
def test_what_is_no_archive_is_an_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(KilnError) as caught:
        unpacked(tmp_path, data)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="No such file"):
        unpack(tmp_path / "none.tar", tmp_path / "to")


def test_normalise_leaves_the_same_tree_with_and_without_version_control(tmp_path: Path) -> None:
    plain, checkout = tmp_path / "plain", tmp_path / "checkout"
    for root in (plain, checkout):
        (root / "src").mkdir(parents=True)
        (root / "src/a.c").write_text("int a;")
        (root / ".gitlab.yml").write_text("kept")
    for name in (".git/config", ".gitignore", "src/.gitignore", "empty/.gitignore", "sub/.git", "x/y/.gitattributes"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("x")
    (checkout / "none/at/all").mkdir(parents=True)
    (checkout / ".gitmodules").symlink_to("src")
    normalise(checkout)
    assert tree(checkout) == tree(plain) == [".gitlab.yml", "src", "src/a.c"]
    assert of_tree(checkout) == of_tree(plain)

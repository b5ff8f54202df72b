import os
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.trees import merge, remove


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_removing_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept/folder").mkdir(parents=True)
    (tmp_path / "gone/folder").mkdir(parents=True)
    (tmp_path / "gone/link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("gone", "link", "never there"):
        remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["folder"]


def test_trees_are_merged_by_links_or_else_by_copies(tmp_path: Path) -> None:
    for name, text in (("one", "1"), ("two", "2")):
        (tmp_path / name / "usr").mkdir(parents=True)
        (tmp_path / name / "usr" / name).write_text(text)
        (tmp_path / name / f"link-{name}").symlink_to("usr")
    roots = [tmp_path / "one", tmp_path / "two"]
    merge(roots, tmp_path / "all")
    assert names(tmp_path / "all") == ["link-one", "link-two", "usr"]
    assert (tmp_path / "all/usr/one").stat().st_nlink == 2
    other = Path("/dev/shm") / f"kiln-test-{os.getpid()}"
    try:
        merge(roots, other)
        assert (other / "usr/two").read_text() == "2"
        assert (other / "link-two").readlink() == Path("usr")
    finally:
        remove(other)
    with pytest.raises(KilnError, match="two packages bring link-one into one sysroot"):
        merge(roots[:1], tmp_path / "all")

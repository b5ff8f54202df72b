"""The output folder of a board."""

import os
from pathlib import Path

import pytest

from kiln.image.output import Output


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for name in ("disk.img", "rootfs.cpio", "SHA256SUMS"):
        made[name] = tmp_path / "store" / name
        made[name].parent.mkdir(exist_ok=True)
        made[name].write_text(name if name != "SHA256SUMS" else "01ef  disk.img\n23ab  rootfs.cpio\n")
    return made


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(folder=tmp_path / "output/board")


def test_files_are_linked_by_name(output: Output, files: dict[str, Path]) -> None:
    assert not output.shows(files)
    output.show(files)
    assert output.shows(files)
    assert (output.folder / "disk.img").read_text() == "disk.img"
    assert not os.path.isabs(os.readlink(output.folder / "disk.img"))


def test_links_that_nobody_keeps_go_and_files_of_the_user_stay(output: Output, files: dict[str, Path]) -> None:
    output.show(files)
    (output.folder / "notes").write_text("mine")
    output.show({"disk.img": files["disk.img"]}, keep={"rootfs.cpio"})
    assert {path.name for path in output.folder.iterdir()} == {"disk.img", "rootfs.cpio", "notes"}


def test_checksums_of_other_files_go(output: Output, files: dict[str, Path]) -> None:
    output.show(files)
    output.show({"disk.img": files["disk.img"]})
    assert (output.folder / "SHA256SUMS").exists()
    output.show({"disk.img": files["rootfs.cpio"]})
    assert not os.path.lexists(output.folder / "SHA256SUMS")


def test_checksums_outlast_files_that_they_do_not_name(output: Output, files: dict[str, Path]) -> None:
    output.show(files)
    for _ in range(2):
        output.show({"live.iso": files["disk.img"]})
        assert output.shows(files)


def test_only_links_are_cleared(output: Output, files: dict[str, Path]) -> None:
    output.show(files)
    (output.folder / "notes").write_text("mine")
    output.clear()
    assert [path.name for path in output.folder.iterdir()] == ["notes"]

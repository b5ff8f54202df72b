"""Cleaning up, through `doit gc`, `doit verify` and `doit store`, as a user does."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project import Project

WRITE = "@package.install\ndef install(step, board):\n    step.write('{0}', '{1}')\n"
KERNEL = """\
from kiln import Package
linux = Package(name="linux", version="1", summary="", license="MIT", libc=False)

@linux.install
def install(step, board):
    step.write("boot/bzImage", "kernel")
"""


@pytest.fixture
def made(real_project: Project) -> Project:
    """Two boards with an image each; `a` was built twice, of which one result is of use no more."""
    real_project.file("packages/linux/recipe.py", KERNEL)
    real_project.file("board/common/extlinux.conf", "LABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    real_project.recipe("b", phases=WRITE.format("b", "b"))
    real_project.board(packages=["a", "b"])
    real_project.board(packages=["b"], name="other")
    for text in ("old", "new"):
        real_project.recipe("a", phases=WRITE.format("a", text))
        run(real_project, "image")
    run(real_project, "image", board="other")
    return real_project


def run(project: Project, *words: str, board: str = "test", status: int = 0) -> str:
    command = [*project.command(*words)[:-1], f"BOARD={board}"]
    done = subprocess.run(command, cwd=project.root, env=project.env(), capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def results(project: Project) -> set[str]:
    return {path.name for path in project.store.iterdir() if (path / "stamp.json").exists()}


def texts(project: Project) -> set[str]:
    return {path.read_text() for path in project.store.glob("a-1-*/root/a")}


@pytest.mark.sandbox
def test_what_no_board_reaches_is_freed_and_nothing_else(made: Project) -> None:
    before = results(made)
    assert texts(made) == {"old", "new"}
    told = run(made, "gc", "--dry-run")
    assert results(made) == before
    run(made, "gc")
    gone = before - results(made)
    assert texts(made) == {"new"}
    assert {name.rsplit("-", 2)[0] for name in gone} == {"a", *(f"test-{part}" for part in PARTS)}
    assert {line.split()[-1] for line in told.splitlines() if line.startswith("would free")} == gone
    assert "for board test" in told
    assert "for board other" in told
    assert told.splitlines()[-1].endswith(f"in {len(gone)} folders would be freed; doit gc frees them")
    for board in ("test", "other"):
        assert "built" not in run(made, "image", board=board)
    assert run(made, "gc").splitlines()[-1] == "0 B in 0 folders are freed"


PARTS = ("rootfs", "cpio", "tar", "ext4", "disk", "image")


@pytest.mark.sandbox
def test_images_of_other_projects_keep_what_they_are_made_of(made: Project, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(made.root, other, symlinks=True, ignore=shutil.ignore_patterns("output"))
    (other / "output").mkdir()
    (other / "output/store").symlink_to(made.store)
    recipe = other / "packages/a/recipe.py"
    recipe.write_text(recipe.read_text().replace("'new'", "'theirs'"))
    theirs = Project.__new__(Project)
    theirs.__dict__ |= made.__dict__ | {"root": other}
    run(theirs, "image")
    assert "image in " in run(made, "gc")
    assert texts(made) == {"new", "theirs"}
    assert "built" not in run(theirs, "image")
    shutil.rmtree(other)
    run(made, "gc")
    assert texts(made) == {"new"}


@pytest.mark.sandbox
def test_a_failed_build_is_kept_as_long_as_it_can_be_entered(made: Project) -> None:
    def broken(text: str) -> None:
        made.recipe("a", phases=f"@package.install\ndef install(step, board):\n    step.run('{text}')\n")

    broken("false")
    run(made, "a", status=1)
    assert "1 for failed, for doit shell" in run(made, "gc")
    (left,) = (made.store / "work").iterdir()
    broken("nothing")
    run(made, "gc")
    assert not left.exists()


@pytest.mark.sandbox
def test_a_board_that_cannot_be_loaded_frees_nothing(made: Project) -> None:
    before = results(made)
    made.file("configs/bad.toml", "packages = 3\n")
    run(made, "gc", status=1)
    assert results(made) == before


@pytest.mark.sandbox
def test_verify_names_what_was_altered_and_the_next_run_mends_it(made: Project) -> None:
    sums = (made.root / "output/test/SHA256SUMS").read_text()
    assert run(made, "verify").endswith(" results, all as they were built\n")
    (file,) = made.store.glob("b-1-*/root/b")
    file.chmod(0o644)
    file.write_text("B")
    os.utime(file, (0, 0))
    told = run(made, "verify", status=1)
    assert f"damaged  {file.parent.parent.name}  b was altered\n" in told
    assert "1 of " in told
    assert "the next run makes them anew" in told
    assert "its result was damaged, and is set aside" in run(made, "why", "b")
    assert "built   b:build" in run(made, "image")
    assert run(made, "verify").endswith(" results, all as they were built\n")
    assert (made.root / "output/test/SHA256SUMS").read_text() == sums


@pytest.mark.sandbox
def test_verify_names_a_stamp_that_was_altered(made: Project) -> None:
    (stamp,) = made.store.glob("b-1-*/stamp.json")
    stamp.chmod(0o644)
    stamp.write_text("{")
    told = run(made, "verify", status=1)
    assert told.count("damaged  ") == 1
    assert f"damaged  {stamp.parent.name}  stamp.json (" in told
    assert "1 of " in told
    assert "built   b:build" in run(made, "image")
    assert run(made, "verify").endswith(" results, all as they were built\n")


@pytest.mark.sandbox
def test_store_shows_sizes_by_package(made: Project) -> None:
    rows = {line.split()[0]: line.split()[1] for line in run(made, "store").splitlines()}
    assert (rows["a"], rows["b"], rows["linux"]) == ("2", "1", "1")
    assert "total" in rows

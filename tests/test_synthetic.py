"""A synthetic project, made as the benchmark makes its big ones: what is fresh stays so, what changed is built."""

import re
import subprocess
from pathlib import Path

import pytest

from tests import synthetic
from tests.project import Project
from tests.synthetic import Edit


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        project = Project(tmp_path / name, Path(__file__).parent.parent)
        synthetic.write(project, synthetic.graph(100))
        synthetic.write_peers(project.root / "peers", synthetic.graph(100))
        found.append(files(project.root))
    assert found[0] == found[1]
    assert synthetic.graph(100) != synthetic.graph(100, seed=1)


def test_a_graph_has_only_earlier_packages_as_libs_and_a_long_chain() -> None:
    libs = synthetic.graph(1000)
    names = list(libs)
    assert len(names) == 1000
    assert all(names.index(lib) < names.index(name) for name, needed in libs.items() for lib in needed)
    assert max(len(needed) for needed in libs.values()) == 4
    assert len(synthetic.users(libs, "chain000")) == 299


def test_users_are_those_that_reach_a_package() -> None:
    libs = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    assert synthetic.users(libs, "a") == {"b", "c"}
    assert synthetic.users(libs, "d") == set()


@pytest.mark.sandbox
def test_what_was_primed_is_fresh_and_an_edit_builds_what_it_must(real_project: Project) -> None:
    libs = synthetic.graph(200)
    synthetic.write(real_project, libs)
    synthetic.prime(real_project)
    first = real_project.doit("image")
    assert (first.returncode, first.stderr) == (0, "")
    assert (
        len(re.findall(r"^cached", first.stdout, re.M)) == 208
    )  # with linux, its root file system, licences and images
    assert "built" not in first.stdout

    assert built(real_project, libs, Edit(package="p00133", text="2")) == {"p00133:build", *IMAGES}
    # The result is as before, so nobody sees the change.
    assert built(real_project, libs, Edit(package="p00000", note="again")) == {"p00000:build"}
    users = {f"{name}:build" for name in synthetic.users(libs, "p00014")}
    assert built(real_project, libs, Edit(package="p00014", text="2")) == {"p00014:build", *users, *IMAGES}


IMAGES = {"rootfs", "cpio", "tar", "ext4", "disk", "image"}


def built(project: Project, libs: dict[str, tuple[str, ...]], edit: Edit) -> set[str]:
    synthetic.apply(project, libs, edit)
    run = project.doit("image")
    assert run.returncode == 0, run.stderr + run.stdout
    return set(re.findall(r"^built +(\S+)", run.stdout, re.M))


def test_ninja_and_make_walk_the_same_graph(tmp_path: Path) -> None:
    libs = synthetic.graph(60)
    synthetic.write_peers(tmp_path / "peers", libs)
    for edit in (Edit(package="p00000", text="2"), Edit(package="p00000", text="2", note="again")):
        subprocess.run(["make", "-s"], cwd=tmp_path / "peers", check=True)
        before = {name: (tmp_path / "peers" / name).read_text() for name in libs}
        synthetic.apply_peer(tmp_path / "peers", edit)
        subprocess.run(["make", "-s"], cwd=tmp_path / "peers", check=True)
        after = {name: (tmp_path / "peers" / name).read_text() for name in libs}
        changed = {name for name in libs if before[name] != after[name]}
        assert changed == (set() if edit.note else {"p00000"} | synthetic.users(libs, "p00000"))

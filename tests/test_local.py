"""Builds from a user's own working tree, and in build folders that are kept."""

import json
from pathlib import Path

import pytest

from kiln import digest
from tests.project import Project
from tests.servers import tarball_of

MAKEFILE = """\
all: one.o two.o
%.o: /src/%.c
\t@echo compiling $*; cp $< $@
"""


@pytest.fixture
def app(real_project: Project, tmp_path: Path) -> Project:
    """A package whose make compiles two files, from an archive; and a working tree of it in `tree`."""
    files = {"one.c": "one\n", "two.c": "two\n", "README": "", "Makefile": MAKEFILE}
    archive = tmp_path / "mirror/app-1.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(tarball_of(files))
    sha256 = digest.of_file(archive).hash
    source = f'source=Archive("https://example.invalid/app-1.tar.gz", sha256="{sha256}")'
    body = "    step.run('make', '-f', '/src/Makefile')\n    step.run('cp', 'one.o', 'two.o', '/dest/')\n"
    real_project.recipe("app", source, phases=f"@package.install\ndef install(step, board):\n{body}")
    real_project.recipe("top", "libs=('app',)", phases="@package.install\ndef install(step, board):\n"
                        "    step.run('cp', '/sysroot/one.o', '/dest/')\n")  # fmt: skip
    for name, text in files.items():
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    return real_project


def run(app: Project, *words: str, **env: str) -> str:
    done = app.doit(*words, env={"KILN_MIRROR": str(app.root.parent / "mirror")} | env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiled(app: Project) -> list[str]:
    log = (app.root / "output/logs/app.log").read_text()
    return [line.split()[1] for line in log.splitlines() if line.startswith("compiling")]


def results(folder: Path) -> set[str]:
    return {json.loads(stamp.read_text())["inputs"]["name"] for stamp in folder.glob("*/stamp.json")}


@pytest.mark.sandbox
def test_a_working_tree_is_built_as_it_is_and_only_what_changed(app: Project, tmp_path: Path) -> None:
    run(app, "top")
    shared = sorted(path.name for path in app.store.iterdir())
    source = f"SRC={tmp_path / 'tree'}"
    assert "built   app:build               0 s  local" in run(app, "dev", "app", source, "top")
    assert sorted(compiled(app)) == ["one", "two"]
    (tmp_path / "tree/one.c").write_text("ONE\n")
    said = run(app, "dev", "app", source, "top")
    assert compiled(app) == ["one"]
    assert "built   top:build               0 s  local" in said
    found = {path.read_text() for path in (app.root / "output/local").glob("top-1-*/root/one.o")}
    assert found == {"one\n", "ONE\n"}
    # What is equal rebuilds nothing, and nothing of it all is in the store that others may use.
    assert "cached  top:build" in run(app, "dev", "app", source, "top")
    assert compiled(app) == []
    assert sorted(path.name for path in app.store.iterdir()) == shared
    assert results(app.root / "output/local") == {"app", "top"}
    assert "cached  top:build" in run(app, "top")


@pytest.mark.sandbox
def test_a_tree_of_something_else_is_refused(app: Project, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/Makefile").touch()
    done = app.doit("dev", "app", f"SRC={tmp_path}/other", env={"KILN_MIRROR": f"{tmp_path}/mirror"})
    assert done.returncode != 0
    assert f"{tmp_path}/other: does not look like app: it lacks README, one.c, two.c\n    let SRC be" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dev",), "name a package and its working tree\n  doit dev PACKAGE SRC=FOLDER"),
        (("dev", "linux"), "name a package and its working tree\n  doit dev PACKAGE SRC=FOLDER"),
        (("dev", "linux", "SRC=/nowhere"), "SRC: there is no folder /nowhere"),
        (("dev", "linus", "SRC=/"), "there is no package 'linus'\n  did you mean linux?"),
        (("image", "SRC=/"), "a package and its working tree go together\n  doit dev PACKAGE SRC=FOLDER"),
    ],
)
def test_what_is_missing_is_told(project: Project, words: tuple[str, ...], told: str) -> None:
    done = project.doit(*words)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.sandbox
def test_a_kept_build_folder_is_gone_on_in(app: Project) -> None:
    kept = {"KILN_KEEP_BUILD": "app"}
    assert "local" in run(app, "app", **kept)
    assert sorted(compiled(app)) == ["one", "two"]
    recipe = app.root / "packages/app/recipe.py"
    recipe.write_text(recipe.read_text().replace("'one.o', 'two.o', ", "'one.o', "))
    assert "built   app:build" in run(app, "app", **kept)
    assert compiled(app) == []
    assert "cached  app:build" in run(app, "app", **kept)
    # Without it, the build starts from nothing, and its result is nobody's but the store's.
    assert "local" not in run(app, "app")
    assert sorted(compiled(app)) == ["one", "two"]

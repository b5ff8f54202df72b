from pathlib import Path

import pytest

from kiln import digest
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.settings import Settings
from kiln.target import closure
from kiln.trees import EPOCH
from tests.project import Project
from tests.servers import tarball_of

PATCH = """\
--- a/hello.c
+++ b/hello.c
@@ -1,3 +1,3 @@
 one
-two
+zwei
 three
--- /dev/null
+++ b/new.c
@@ -0,0 +1 @@
+new
"""


@pytest.fixture
def graph(real_project: Project, tmp_path: Path) -> Graph:
    archive = tmp_path / "mirror/app-1.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(tarball_of({"hello.c": "one\ntwo\nthree\n", "other.c": "other\n"}))
    sha256 = digest.of_file(archive).hash
    real_project.recipe("app", f'source=Archive("https://example.invalid/app-1.tar.gz", sha256="{sha256}")')
    real_project.file("packages/app/patches/1.patch", PATCH)
    return Graph.load(Settings.read(real_project.root, {"KILN_MIRROR": f"{archive.parent}"}), "test")


@pytest.mark.sandbox
def test_a_patched_source_is_not_a_copy_and_leaves_the_source_as_it_was(graph: Graph) -> None:
    patched = graph.result("app").source
    assert patched
    for target in closure(patched):
        target.build()
    root, plain = patched.built().root, graph.source("app", "1").built()
    assert sorted(path.name for path in root.iterdir()) == ["hello.c", "new.c", "other.c"]
    assert (root / "hello.c").read_text() == "one\nzwei\nthree\n"
    assert (root / "hello.c").stat().st_mtime == EPOCH
    assert (plain.root / "hello.c").read_text() == "one\ntwo\nthree\n"
    assert plain.damage() == patched.built().damage() == []
    assert (root / "other.c").samefile(plain.root / "other.c")


@pytest.mark.sandbox
def test_a_patch_that_does_not_apply_is_told(graph: Graph, real_project: Project) -> None:
    real_project.file("packages/app/patches/2.patch", PATCH.replace("zwei", "deux"))
    graph = Graph.load(graph.settings, "test")
    patched = graph.result("app").source
    assert patched
    with pytest.raises(KilnError, match=r"^app:patch: 2.patch does not apply\npatching file hello.c\n") as caught:
        for target in closure(patched):
            target.build()
    assert "FAILED" in caught.value.message
    assert not list((real_project.store / "work").iterdir())
    assert graph.source("app", "1").built().damage() == []


@pytest.mark.sandbox
def test_a_source_is_fetched_when_it_is_asked_for_by_name_alone(graph: Graph, real_project: Project) -> None:
    env = {"KILN_MIRROR": graph.settings.mirror or ""}
    real_project.recipe("data", phases="@package.install\ndef install(step, board):\n    step.write('a', '')\n")
    assert real_project.doit("data", env=env).returncode == 0
    assert not list(real_project.store.glob("app-source-*"))
    assert "built   app:fetch" in real_project.doit("app:fetch", env=env).stdout
    assert list(real_project.store.glob("app-source-*"))

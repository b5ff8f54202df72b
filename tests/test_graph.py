import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.settings import Settings
from kiln.source.tree import SourceTree
from kiln.store import Store, Work
from kiln.target import Target, closure
from kiln.trees import remove
from kiln.vm.roads import ROADS
from tests.project import HEADER, Project


def pin(content: str, sha256: str = "0") -> str:
    return f'Debian("tiny_1.tar.gz", sha256="{sha256 * 64}", content="sha256:{content * 64}")'


def publish(target: Target, text: str = "", store: Store | None = None) -> None:
    """Put a result into the store that no sandbox made; the store that holds the lock, where there is another."""

    def fill(work: Work) -> dict[str, Any]:
        place = work.root / ("boot/bzImage" if target.id == "linux:build" else target.name)
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
        return {"content": text}

    inputs = target.inputs()
    assert inputs
    (store or target.store).build(target.name, target.version, inputs, fill)
    target.look()


def ids(targets: Iterable[Target]) -> list[str]:
    return [target.id for target in targets]


@pytest.fixture
def graph(project: Project) -> Graph:
    """The image needs `app`, that one `data` at run time; `app` is made with `lib` and `tool`; `spare` is not used."""
    project.recipe("lib", f"source={pin('1')}")
    project.recipe("tool", f"source={pin('2')}")
    project.recipe("app", f"source={pin('3')}", "libs=('lib',), tools=('tool',), runtime=('data',)")
    project.recipe("data")
    project.recipe("spare", f"source={pin('4')}")
    project.board(packages=["app"])
    return project.graph()


def test_dependencies_come_first(graph: Graph) -> None:
    order = ids(graph.targets)
    assert len(order) == len(set(order))
    for target in graph.targets:
        for dep in target.deps:
            assert order.index(dep.id) < order.index(target.id)


def test_the_image_is_made_of_what_is_needed_at_run_time(graph: Graph) -> None:
    assert graph.runtime() == ["app", "data"]
    assert ids(graph.image.deps[0].deps) == ["app:build", "data:build"]
    found = set(ids(closure(graph.image)))
    assert {"lib:build", "tool:build", "app:fetch", "rootfs", "cpio", "ext4", "tar", "disk", "linux:build"} < found
    assert not found & {"spare:build", "spare:fetch", "tools:vm-x86_64"}
    assert {"spare:build", "spare:fetch", "tools:vm-x86_64"} < set(ids(graph.targets))


@pytest.mark.parametrize(
    ("libc", "app", "needs"),
    [
        ("static", "", ["app"]),
        ("shared", "", ["app", "lib", "musl"]),
        ("static", "shared=True", ["app", "lib", "musl"]),
        ("shared", "libc=False", ["app"]),
    ],
)
def test_shared_libraries_come_with_what_is_linked_against_them(
    project: Project, libc: str, app: str, needs: list[str]
) -> None:
    for name in ("toolchain", "linux-headers", "musl"):
        project.recipe(name)
    for name, fields in {"app": f"libs=('lib', 'archive'), {app}", "lib": "shared=True", "archive": ""}.items():
        text = f'app = Package(name="{name}", version="1", license="MIT", summary="", {fields})\n'
        project.file(f"packages/{name}/recipe.py", HEADER + text)
    project.board(packages=["app"], more=f'libc = "{libc}"\n')
    assert project.graph().runtime() == needs


def test_a_package_sees_what_it_declared_and_the_libraries_of_its_libraries(project: Project) -> None:
    project.recipe("base")
    project.recipe("middle", "libs=('base',), runtime=('extra',)")
    project.recipe("extra")
    project.recipe("top", "libs=('middle',), tools=('extra',)")
    stage = project.graph().result("top")
    assert ids(stage.libs) == ["middle:build"]
    assert ids(stage.sysroot()) == ["base:build", "middle:build"]
    assert ids(stage.used) == ["extra:build"]


def test_what_is_compiled_for_the_board_gets_toolchain_and_c_library(project: Project) -> None:
    for name in ("toolchain", "linux-headers", "musl"):
        project.recipe(name)
    recipe = project.recipe("app")
    recipe.write_text(recipe.read_text().replace("libc=False", "libc=True"))
    stage = project.graph().result("app")
    assert ids(stage.used) == ["toolchain:build"]
    assert ids(stage.libs) == ["linux-headers:build", "musl:build"]


def test_nothing_is_fetched_when_all_is_built(project: Project, graph: Graph) -> None:
    project.file("board/common/extlinux.conf", "LABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    lazy = [target for target in closure(graph.image) if target.lazy]
    assert set(ids(lazy)) == {
        "tools:sandbox",
        "tools:build",
        "tools:image",
        "lib:fetch",
        "tool:fetch",
        "app:fetch",
    }
    assert all(graph.needed(target) for target in lazy)
    for target in closure(graph.image):
        if not target.lazy and target is not graph.image:
            publish(target)
    graph.image.build()
    assert not any(graph.needed(target) for target in lazy)
    assert not any(target.entry() for target in lazy)


def test_a_source_is_needed_by_the_package_that_must_be_built(graph: Graph) -> None:
    for target in closure(graph.image):
        if not target.lazy and target.id in ("lib:build", "tool:build"):
            publish(target)
    needed = {target.id for target in closure(graph.image) if target.lazy and graph.needed(target)}
    assert needed == {"tools:sandbox", "tools:build", "tools:image", "app:fetch"}


def test_a_library_counts_by_content_and_a_tool_by_key(project: Project, graph: Graph) -> None:
    publish(graph.result("lib"), "same")
    publish(graph.result("tool"), "same")
    before = graph.result("app").key()
    assert before

    project.recipe("lib", f"source={pin('5')}")
    changed = project.graph()
    assert changed.result("app").key() is None
    publish(changed.result("lib"), "same", graph.store)
    changed = project.graph()
    assert changed.result("lib").built().key != graph.result("lib").built().key
    assert changed.result("app").key() == before

    project.recipe("tool", f"source={pin('5')}")
    assert project.graph().result("app").key() != before


def test_what_a_library_is_compiled_against_counts_for_its_users(project: Project) -> None:
    project.recipe("base", f"source={pin('1')}")
    project.recipe("middle", "libs=('base',)")
    project.recipe("top", "libs=('middle',)")
    keys = []
    for content in ("one", "two", "one"):
        graph = project.graph()
        publish(graph.result("base"), content)
        publish(graph.result("middle"), "same")
        keys.append(graph.result("top").key())
        remove(graph.result("base").built().path)
    assert None not in keys
    assert keys[0] == keys[2] != keys[1]


def test_the_board_chooses_versions_and_back(project: Project) -> None:
    project.recipe("tiny", f"source={pin('1')}", f"versions={{'2': {pin('2')}}}")
    found = []
    for more in ("", "[versions]\ntiny = '2'\n", ""):
        project.board(packages=["tiny"], more=more)
        graph = project.graph()
        source = graph.result("tiny").source
        assert source
        found.append(
            (graph.version("tiny"), graph.result("tiny").version, source.contents(), graph.result("tiny").key())
        )
    assert [entry[:3] for entry in found[:2]] == [("1", "1", ["1" * 64]), ("2", "2", ["2" * 64])]
    assert found[0] == found[2]
    assert found[0][3] != found[1][3]


def test_a_package_shares_the_source_of_another(project: Project) -> None:
    project.recipe("tiny", f"source={pin('1')}")
    project.recipe("headers", 'source="tiny"')
    graph = project.graph()
    assert isinstance(graph.result("headers").source, SourceTree)
    assert graph.result("headers").source is graph.result("tiny").source


def test_a_shared_source_must_have_the_version(project: Project) -> None:
    project.recipe("headers", 'source="data"')
    project.recipe("data")
    with pytest.raises(KilnError, match=r"^packages/data/recipe.py: data has no pinned source for version 1"):
        project.graph().result("headers")


def test_a_result_is_found_by_any_content_that_its_source_may_have(project: Project) -> None:
    mirror = f'Archive("https://example.org/tiny-1.tar.gz", sha256="{"a" * 64}", content="sha256:{"2" * 64}")'
    pins = f'commit="{"b" * 40}", content="sha256:{"1" * 64}", mirrors=[{mirror}]'
    git = f'Git("https://example.org/tiny", tag="1", {pins})'
    project.recipe("tiny", f"source={git}")
    stage = project.graph().result("tiny")
    assert stage.source
    assert stage.source.contents() == ["1" * 64, "2" * 64]
    assert stage.entry() is None
    inputs = stage.inputs() | {"source": "2" * 64}
    entry = stage.store.build("tiny", "1", inputs, lambda _: {})
    assert project.graph().result("tiny").entry() == entry


def test_patches_stand_between_source_and_package(project: Project) -> None:
    project.recipe("tiny", f"source={pin('1')}")
    graph = project.graph()
    plain = graph.result("tiny").key()
    project.file("packages/tiny/patches/1.patch", "one")
    graph = project.graph()
    source = graph.result("tiny").source
    assert source
    assert source.id == "tiny:patch"
    assert "tiny:fetch" in ids(source.deps)
    # Nobody knows what a patched source holds before it was made.
    assert graph.result("tiny").key() is None
    publish(source)
    assert graph.result("tiny").key() not in (None, plain)
    project.file("packages/tiny/patches/1.patch", "two")
    assert project.graph().result("tiny").key() is None


def test_results_are_not_tied_to_the_folder_of_the_project(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        project = Project(tmp_path / name, Path(__file__).parent.parent)
        project.recipe("a", phases="@package.build\ndef build(step, board):\n    step.run(step.input('files/a'))\n")
        project.file("packages/a/files/a", "#!/bin/sh\n")
        keys.add(project.graph().result("a").key())
    assert len(keys) == 1


def test_a_chain_of_a_thousand_libraries_can_be_loaded(project: Project) -> None:
    project.recipe("p0")
    for number in range(1, 1000):
        project.recipe(f"p{number}", f"libs=('p{number - 1}',)")
    project.board(packages=["p999"])
    graph = project.graph()
    assert graph.needed(graph.tools["build"])
    assert graph.result("p999").entry() is None
    assert len(graph.result("p999").sysroot()) == 999


def test_a_name_that_is_no_package_is_told(project: Project) -> None:
    project.recipe("a")
    project.recipe("app")
    with pytest.raises(KilnError, match=r"KILN_KEEP_BUILD: there is no package 'ap'\n  did you mean app or a\?"):
        Graph.load(Settings.read(project.root, {"KILN_KEEP_BUILD": "a, ap"}), "test")
    with pytest.raises(KilnError, match=r"doit dev: there is no package 'linus'\n  did you mean linux"):
        Graph.load(Settings.read(project.root, {}), "test", {"linus": project.root})


def test_an_overlay_that_cannot_be_read_is_told_by_path() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        project = Project(Path(folder) / "project", Path(__file__).parent.parent)
        project.file("board/test/overlay/etc/secret", "").chmod(0)
        rootfs = project.graph().image.deps[0]
        try:
            os.seteuid(user or 65534)  # root could read it
            with pytest.raises(
                KilnError, match=r"Permission denied: .*/etc/secret'\n  an overlay holds readable files"
            ):
                rootfs.inputs()
        finally:
            os.seteuid(user)


def test_disks_have_the_root_that_the_board_chooses(project: Project) -> None:
    project.board(packages=[], more='disk_root = "squashfs"\n')
    media = project.graph().media
    for name in ("disk", "uefi", "uki"):
        if name in media:
            assert {"squashfs", "ext4"} & {dep.id for dep in media[name].deps} == {"squashfs"}
    project.board(packages=[], more='disk_root = "erofs"\n')
    with pytest.raises(KilnError, match="nothing here writes EROFS"):
        _ = project.graph().media


def test_a_board_whose_initramfs_lacks_what_makes_it_is_told(project: Project) -> None:
    project.board(packages=[], more='initramfs = "dracut"\n')
    with pytest.raises(KilnError, match="dracut needs the package 'dracut'"):
        _ = project.graph().media
    project.board(packages=[], more='initramfs = "none"\n')
    assert not {"initramfs", "uki", "iso"} & project.graph().media.keys()


def test_only_a_pc_boots_by_the_ipxe_of_its_network_card(project: Project) -> None:
    project.board(packages=[], more='loader = "syslinux"\n')
    assert {"cpio", "disk", "tftp", "http"} < set(project.graph().roads)
    project.board(packages=[], more='loader = "none"\n')
    assert {"cpio", "ext4"} <= set(project.graph().roads) <= ROADS.keys() - {"disk", "tftp", "http"}

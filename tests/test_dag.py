"""The drawn graph: it is the real one, Graphviz reads it, and nothing in it is obeyed."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.report import dag
from kiln.report.dag import Drawing, Edge, Node
from kiln.sandbox import Mount, Sandbox
from kiln.settings import Settings
from kiln.store import Work
from kiln.target import closure
from kiln.tools import Tools
from kiln.verbs.graph import graph as draw
from tests import synthetic
from tests.project import Project

ROOT = Path(__file__).parent.parent
_SVG = "{http://www.w3.org/2000/svg}"
EVIL = 'evil"\\N\\G&lt;<script>alert(1)</script>--></svg>\n@DATA@'


@pytest.fixture(scope="module")
def real() -> Graph:
    return Graph.load(Settings.read(ROOT), "qemu-x86_64")


@pytest.fixture(scope="module")
def drawer(tools: Tools) -> Sandbox:
    tools["draw"].build()
    return tools.sandbox("draw")


@pytest.fixture
def small(project: Project) -> Graph:
    """app uses lib and, while it is built, gen; it needs data at run time."""
    project.recipe("gen")
    project.recipe("lib")
    project.recipe("data")
    project.recipe("app", 'libs=("lib",)', 'tools=("gen",)', 'runtime=("data",)')
    project.board(packages=["app"], more='loader = "none"')
    return project.graph()


def read(graph: Graph, *names: str, tools: bool = False) -> Drawing:
    targets = [target for name in names for target in graph.named(name)] or [graph.image]
    return dag.read(graph, targets, title="a test", tools=tools)


def as_graphviz_reads_it(text: str, drawer: Sandbox, tmp_path: Path) -> dict[str, Any]:
    plugins = "usr/lib/x86_64-linux-gnu/graphviz"
    for path in (drawer.root / plugins).glob("*.so.6"):
        (tmp_path / path.name).symlink_to(f"/{plugins}/{path.name}")
    inside = drawer.with_mounts([Mount(source=tmp_path, target="/work", writable=True)])
    inside = inside.with_env({"GVBINDIR": "/work"})
    inside.run(["dot", "-c"])
    found: dict[str, Any] = json.loads(inside.run(["dot", "-Tjson0"], input=text.encode()))
    return found


def test_every_target_is_drawn_once_and_the_edges_are_those_of_the_graph(real: Graph) -> None:
    drawing = read(real, tools=True)
    targets = closure(real.image)
    assert sorted(node.id for node in drawing.nodes) == sorted(target.id for target in targets)
    edges = [(edge.user, edge.needed) for edge in drawing.edges if edge.link != "runtime"]
    assert sorted(edges) == sorted({(target.id, dep.id) for target in targets for dep in target.deps})
    runtime = {(edge.user, edge.needed) for edge in drawing.edges if edge.link == "runtime"}
    assert ("init:build", "busybox:build") in runtime


def test_the_trees_of_tools_are_left_out_unless_asked_for(real: Graph) -> None:
    with_tools, without = read(real, tools=True), read(real)
    left_out = {node.id for node in with_tools.nodes} - {node.id for node in without.nodes}
    assert left_out == {"tools:sandbox", "tools:build", "tools:image"}
    ids = {node.id for node in without.nodes}
    assert set(without.edges) == {edge for edge in with_tools.edges if {edge.user, edge.needed} <= ids}


def test_named_targets_are_drawn_with_what_they_need(real: Graph) -> None:
    assert {node.id for node in read(real, "zlib").nodes} == {
        target.id for target in closure(*real.named("zlib")) if not target.id.startswith("tools:")
    }


def test_what_one_takes_from_the_other_is_told_apart(small: Graph) -> None:
    links = {(edge.user, edge.needed): edge.link for edge in read(small, tools=True).edges}
    assert links["app:build", "lib:build"] == "lib"
    assert links["app:build", "gen:build"] == links["app:build", "tools:build"] == "tool"
    assert links["app:build", "data:build"] == "runtime"
    assert links["rootfs", "app:build"] == links["image", "rootfs"] == "content"


def test_sources_and_configurations_are_told_apart_from_libraries(real: Graph) -> None:
    links = {(edge.user, edge.needed): edge.link for edge in read(real).edges}
    assert links["busybox:patch", "busybox:fetch"] == links["busybox:configure", "busybox:patch"] == "source"
    assert links["busybox:build", "busybox:configure"] == "source"
    assert links["busybox:build", "musl:build"] == "lib"
    assert links["busybox:build", "toolchain:build"] == "tool"


def test_what_was_built_is_told_with_its_size_and_time(small: Graph, project: Project) -> None:
    stage = small.result("gen")

    def fill(work: Work) -> dict[str, Any]:
        (work.root / "file").write_bytes(bytes(100_000))
        return {}

    stage.store.build(stage.name, stage.version, stage.inputs(), fill)
    nodes = {node.id: node for node in read(project.graph()).nodes}
    assert (nodes["lib:build"].built, nodes["lib:build"].notes) == (False, ("1",))
    version, size, seconds = nodes["gen:build"].notes
    assert (nodes["gen:build"].built, version, seconds) == (True, "1", "0 s")
    assert 100 <= float(size.removesuffix(" kB")) < 120


def hostile() -> Drawing:
    nodes = [Node(id=EVIL, kind="package", doc=EVIL, notes=(EVIL,), built=False)]
    nodes.append(Node(id="plain", kind="source", doc="", notes=(), built=True))
    return Drawing(title=EVIL, nodes=tuple(nodes), edges=(Edge(user=EVIL, needed="plain", link="lib"),))


@pytest.mark.sandbox
def test_graphviz_reads_what_was_written(real: Graph, drawer: Sandbox, tmp_path: Path) -> None:
    drawing = read(real, tools=True)
    found = as_graphviz_reads_it(dag.dot(drawing), drawer, tmp_path)
    assert [node["name"] for node in found["objects"]] == [node.id for node in drawing.nodes]
    names = {node["_gvid"]: node["name"] for node in found["objects"]}
    edges = [(names[edge["head"]], names[edge["tail"]], edge["class"]) for edge in found["edges"]]
    assert sorted(edges) == sorted((edge.user, edge.needed, edge.link) for edge in drawing.edges)


@pytest.mark.sandbox
def test_the_picture_is_the_same_each_time_and_knows_light_and_dark(real: Graph, drawer: Sandbox) -> None:
    drawing = read(real)
    text = dag.svg(dag.dot(drawing), drawer)
    assert text == dag.svg(dag.dot(drawing), drawer)
    assert "prefers-color-scheme: dark" in text
    tree = ElementTree.fromstring(text)
    groups = [group for group in tree.iter(f"{_SVG}g") if "node" in group.get("class", "").split()]
    assert {group.get("id") for group in groups} == {f"n{number}" for number in range(len(drawing.nodes))}
    assert len(groups) == len(drawing.nodes)
    assert not re.search(r"<!|xlink:href|@import|<script", text)


@pytest.mark.sandbox
def test_names_and_descriptions_are_obeyed_by_nobody(drawer: Sandbox, tmp_path: Path) -> None:
    drawing = hostile()
    text = dag.dot(drawing)
    (tmp_path / "dot").mkdir()
    found = as_graphviz_reads_it(text, drawer, tmp_path / "dot")
    assert len(found["objects"]) == 2
    picture = dag.svg(text, drawer)
    tree = ElementTree.fromstring(picture)
    assert not list(tree.iter(f"{_SVG}script"))
    shown = "".join(element.text or "" for element in tree.iter(f"{_SVG}text"))
    assert 'evil"\\N\\G&lt;<script>alert(1)</script>--></svg>' in shown
    page = dag.page(drawing, picture)
    assert page.count("<script") == page.count("</script>") == 2
    assert page.count("<svg") == page.count("</svg>") == 1
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data
    assert json.loads(data[1]) == {
        "nodes": [
            {"id": EVIL, "doc": EVIL, "notes": f"package, not built yet, {EVIL}"},
            {"id": "plain", "doc": "", "notes": "source, built"},
        ],
        "edges": [[1, 0, "lib"]],
    }


@pytest.mark.sandbox
def test_the_files_land_in_the_output_folder(real_project: Project, drawer: Sandbox, capsys: Any) -> None:
    place = drawer.root.parent
    (real_project.store / place.name).symlink_to(place)
    real_project.recipe("app")
    real_project.board(packages=["app"], more='loader = "none"')
    graph = real_project.graph()
    draw(graph, tools=False, format="all")
    made = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert made == ["graph.dot", "graph.svg", "graph.html"]
    page = (real_project.root / "output/test/graph.html").read_text()
    assert "app:build" in page and "@PICTURE@" not in page
    assert not re.search(r"""(src|href)=["']|@import|url\(""", page)


def test_a_format_or_target_that_is_none_is_told(small: Graph) -> None:
    with pytest.raises(KilnError, match="there is no format 'svgg'") as caught:
        draw(small, tools=False, format="svgg")
    assert "did you mean svg?" in str(caught.value)
    with pytest.raises(KilnError, match="no package or target 'apq'"):
        draw(small, "apq", tools=False, format="dot")


def test_a_thousand_packages_become_text_and_no_picture_that_nobody_could_read(project: Project) -> None:
    libs = synthetic.graph(1000)
    synthetic.write(project, libs)
    graph = project.graph()
    draw(graph, tools=False, format="dot")
    text = (project.root / "output/test/graph.dot").read_text()
    for name, needed in libs.items():
        assert text.count(f'\n  "{name}:build" [') == 1
        for lib in needed:
            assert f'\n  "{lib}:build" -> "{name}:build" [' in text
    with pytest.raises(KilnError, match="take minutes") as caught:
        draw(graph, tools=False, format="svg")
    assert "doit graph PACKAGE" in str(caught.value)

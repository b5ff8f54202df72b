"""The graph of a board as a drawing: text for Graphviz, a picture, and a page to look around in."""

import html
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.image.targets import Part
from kiln.report.progress import duration
from kiln.report.size import human
from kiln.report.usage import weigh
from kiln.sandbox import Mount, Sandbox
from kiln.stage import Stage
from kiln.target import Target, closure
from kiln.tools import ToolsTree

Kind = Literal["tools", "source", "package", "image"]
# What a target takes from another: images take "content". "runtime" is between packages.
Link = Literal["source", "tool", "lib", "content", "runtime"]

STYLE = Path(__file__).with_name("dag.css")
PAGE = Path(__file__).with_name("dag.html")
SHAPES: dict[Kind, str] = {"tools": "folder", "source": "note", "package": "box", "image": "cylinder"}
# Graphviz routes curves for so many targets in seconds, and places so many: of a thousand it takes minutes.
_CURVED = 200
MOST = 500
_PLUGINS = "usr/lib/x86_64-linux-gnu/graphviz"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A target. ``notes`` are its version, size and the time that it took, as far as they are known."""

    id: str
    kind: Kind
    doc: str
    notes: tuple[str, ...]
    built: bool


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``user`` needs ``needed``, both by their ids."""

    user: str
    needed: str
    link: Link


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Targets, those that others need first, and what leads from one to the other."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def read(graph: Graph, targets: Sequence[Target], *, title: str, tools: bool) -> Drawing:
    """These targets and all that they need; without ``tools``, the trees that every sandbox is made of are left out."""
    drawn = {target.id: target for target in closure(*targets) if tools or not isinstance(target, ToolsTree)}
    found = {(user.id, dep.id): link for user in drawn.values() for dep, link in _links(user) if dep.id in drawn}
    for user in drawn.values():
        if isinstance(user, Stage) and user is graph.result(user.package):
            for name in graph.recipes[user.package].package.runtime:
                needed = graph.result(name).id
                if needed in drawn:
                    found.setdefault((user.id, needed), "runtime")
    edges = tuple(Edge(user=user, needed=needed, link=link) for (user, needed), link in found.items())
    return Drawing(title=title, nodes=tuple(map(_node, drawn.values())), edges=edges)


def _links(target: Target) -> Iterator[tuple[Target, Link]]:
    for dep in target.deps:
        if isinstance(dep, ToolsTree) or (isinstance(target, Stage) and dep in target.used):
            yield dep, "tool"
        elif isinstance(target, Stage):
            yield dep, "lib" if dep in target.libs else "source"
        else:
            yield dep, "source" if dep.lazy else "content"


def _node(target: Target) -> Node:
    kind: Kind = "package"
    if isinstance(target, ToolsTree):
        kind = "tools"
    elif isinstance(target, Part):
        kind = "image"
    elif target.lazy:
        kind = "source"
    notes = [target.version] if kind in ("source", "package") else []
    entry = target.entry()
    if entry:
        # Sources and trees of tools have too many files to look at each.
        notes += [] if target.lazy or kind == "tools" else [human(weigh(entry.root))]
        notes.append(duration(entry.seconds))
    return Node(id=target.id, kind=kind, doc=target.doc, notes=tuple(notes), built=entry is not None)


def dot(drawing: Drawing) -> str:
    """The drawing in Graphviz' language; arrows lead from what is needed to what is made of it."""
    small = len(drawing.nodes) <= _CURVED
    lines = [
        "digraph kiln {",
        f"  graph [{_attributes(label=drawing.title, labelloc='t', rankdir='LR', bgcolor='transparent')}]",
        f'  graph [fontname="DejaVu Sans" ranksep=0.9 nodesep=0.12 splines={"true" if small else "line"}'
        + ("]" if small else " nslimit=1 nslimit1=1 mclimit=0.2]"),
        '  node [fontname="DejaVu Sans" fontsize=11 margin="0.12,0.06" height=0.3]',
        "  edge [arrowsize=0.6]",
    ]
    numbers = {node.id: number for number, node in enumerate(drawing.nodes)}
    for node in drawing.nodes:
        label = "\n".join([node.id, *([", ".join(node.notes)] if node.notes else [])])
        words = f"{node.kind} {'built' if node.built else 'unbuilt'}"
        style = "rounded" if node.kind == "package" else "solid"
        line = style if node.built else f"{style},dashed"
        shown = {"label": label, "shape": SHAPES[node.kind], "style": line, "class": words}
        lines.append(f"  {_quoted(node.id)} [{_attributes(id=f'n{numbers[node.id]}', **shown)}]")
    for number, edge in enumerate(drawing.edges):
        style = {"tool": "dashed", "runtime": "dotted"}.get(edge.link, "solid")
        more = {"constraint": "false"} if edge.link == "runtime" else {}
        shown = {"id": f"e{number}", "class": edge.link, "style": style} | more
        lines.append(f"  {_quoted(edge.needed)} -> {_quoted(edge.user)} [{_attributes(**shown)}]")
    return "\n".join([*lines, "}\n"])


def _attributes(**values: str) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in values.items())


def _quoted(text: str) -> str:
    """A string of DOT, of which Graphviz reads neither escapes nor entities."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{text}"'.replace("\n", "\\n")


def svg(text: str, sandbox: Sandbox) -> str:
    """What Graphviz of ``sandbox``, on the tools that draw, makes of DOT text, in colours for light and dark."""
    folder = sandbox.root / _PLUGINS
    with tempfile.TemporaryDirectory() as scratch:
        # Its list of plugins would be written by a maintainer script.
        for path in folder.glob("libgvplugin_*.so.6"):
            Path(scratch, path.name).symlink_to(f"/{_PLUGINS}/{path.name}")
        mount = Mount(source=Path(scratch), target="/work", writable=True)
        inside = sandbox.with_mounts([mount]).with_env({"GVBINDIR": "/work"})
        inside.run(["dot", "-c"])
        drawn = inside.run(["dot", "-Tsvg"], input=text.encode()).decode()
    start = drawn.find("<svg")
    if start < 0:
        raise KilnError("Graphviz drew nothing", where="dot -Tsvg")
    head, body = drawn[start:].split(">", 1)
    plain = re.sub(r"<!--.*?-->\n?", "", body, flags=re.DOTALL)
    return f"{head}>\n<style>\n{STYLE.read_text()}</style>{plain}"


def page(drawing: Drawing, picture: str) -> str:
    """A page of its own with the picture, for a browser: search, and who needs what."""
    nodes = [{"id": node.id, "doc": node.doc, "notes": _state(node)} for node in drawing.nodes]
    numbers = {node.id: number for number, node in enumerate(drawing.nodes)}
    edges = [[numbers[edge.needed], numbers[edge.user], edge.link] for edge in drawing.edges]
    # Nothing in the data may end the script.
    data = json.dumps({"nodes": nodes, "edges": edges}, sort_keys=True).replace("<", "\\u003c")
    parts = {"@TITLE@": html.escape(drawing.title), "@DATA@": data, "@PICTURE@": picture}
    return re.sub("|".join(parts), lambda found: parts[found[0]], PAGE.read_text())


def _state(node: Node) -> str:
    return ", ".join((node.kind, "built" if node.built else "not built yet", *node.notes))

"""``doit graph``: the graph of a board, drawn."""

import os

from kiln.errors import KilnError, nearest
from kiln.graph import Graph
from kiln.report import dag

FORMATS = ("dot", "svg", "html")


def graph(graph: Graph, *names: str, tools: bool, format: str) -> None:
    """Draw what the board's image is made from, or what the named targets need, into its output folder.

    ``format`` is one of FORMATS, or "all". ``tools`` adds the trees that all sandboxes are made of.
    """
    if any(name.startswith("-") for name in names):
        raise KilnError("options come before names", hint="doit graph [--tools] [--format FORMAT] [TARGET ...]")
    if format not in ("all", *FORMATS):
        raise KilnError(f"there is no format {format!r}", where="--format", hint=nearest(format, ("all", *FORMATS)))
    chosen = [target for name in names for target in graph.named(name)] or [graph.image]
    title = f"{graph.board.name}: {', '.join(names) or 'image'}, and what it is made from"
    drawing = dag.read(graph, chosen, title=title, tools=tools)
    folder = graph.image.output
    folder.mkdir(parents=True, exist_ok=True)
    wanted = FORMATS if format == "all" else (format,)
    text = dag.dot(drawing)
    if "dot" in wanted:
        _write(folder / "graph.dot", text)
    if wanted == ("dot",):
        return
    if len(drawing.nodes) > dag.MOST:
        message = f"Graphviz would take minutes to place {len(drawing.nodes)} targets (it takes {dag.MOST} at most)"
        hint = "name the targets that matter, such as `doit graph PACKAGE`"
        raise KilnError(message, hint=f"{hint}; or `doit graph --format dot`, and `sfdp -Tsvg` on graph.dot")
    for name in ("sandbox", "draw"):
        graph.tools[name].build()
    picture = dag.svg(text, graph.tools.sandbox("draw"))
    if "svg" in wanted:
        _write(folder / "graph.svg", picture)
    if "html" in wanted:
        _write(folder / "graph.html", dag.page(drawing, picture))


def _write(path: os.PathLike[str], text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
    print(os.path.relpath(path), flush=True)

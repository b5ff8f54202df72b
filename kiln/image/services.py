"""Services: the lines of /etc/inittab, in fragments that packages and boards bring."""

from collections.abc import Iterable

from kiln.errors import KilnError
from kiln.image.manifest import Layer, Node, file_node

# Where a package or an overlay puts its lines; they are joined in the order of their names.
FRAGMENTS = "etc/inittab.d"


def is_fragment(node: Node) -> bool:
    """Whether a path is a fragment or the folder of them, which is not in the image."""
    return f"{node.path}/".startswith(f"{FRAGMENTS}/")


def inittab(packages: Iterable[Layer], overlays: Iterable[Layer]) -> list[Node]:
    """/etc/inittab, or nothing where nobody has a line for it; an overlay's fragment replaces one of a package.

    Raises KilnError where two packages bring fragments of one name.
    """
    found: dict[str, Node] = {}
    for package, nodes in packages:
        for node in filter(_is_text, nodes):
            if node.path in found:
                other = found[node.path].package
                hint = "let the board have one of the two"
                raise KilnError(f"/{node.path} comes from {other} and {package}", hint=hint)
            found[node.path] = node
    for _, nodes in overlays:
        found |= {node.path: node for node in nodes if _is_text(node)}
    texts = [_lines(node) for _, node in sorted(found.items())]
    return [file_node("etc/inittab", b"".join(texts), package="board")] if texts else []


def _is_text(node: Node) -> bool:
    return node.kind == "file" and is_fragment(node)


def _lines(node: Node) -> bytes:
    text = node.read()
    return text if text.endswith(b"\n") or not text else text + b"\n"

"""What a board's images are made from, as targets: the manifest of its root file system first."""

import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.board import Board
from kiln.errors import KilnError
from kiln.image import secrets, services
from kiln.image.accounts import account_nodes
from kiln.image.manifest import Layer, Manifest, Node, file_node, tree_nodes
from kiln.recipe.package import Package
from kiln.recipe.step import LICENSES
from kiln.stage import Stage
from kiln.store import Store, Work
from kiln.target import Target

# What is there for those who make an image, or compile for it.
_FOR_MAKERS = (f"{LICENSES}/", "usr/include/", "usr/lib/pkgconfig/")
_FOR_LINKERS = (".a", ".o")


@cache
def _writers() -> str:
    """The digest of the code that writes images, so that a better writer makes new ones."""
    here = Path(__file__).parent
    paths = [*sorted(here.glob("*.py")), here.parent / "initramfs/newc.py"]
    return digest.of_value({path.name: digest.of_file(path).hash for path in paths})


class Part(Target):
    """Something of a board's image, made by this folder's code."""

    version = "1"

    def __init__(self, kind: str, doc: str, board: Board, store: Store, deps: Sequence[Target]) -> None:
        super().__init__(store, deps)
        self.id = kind
        self.name = f"{board.name}-{kind}"
        self.doc = doc
        self.board = board

    def made_from(self, **inputs: Any) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "writers": _writers()} | inputs


class Rootfs(Part):
    """The manifest of the board's root file system."""

    def __init__(self, board: Board, packages: Sequence[Package], stages: Sequence[Stage], store: Store) -> None:
        doc = "the manifest of the root file system: every path, and the package that owns it"
        super().__init__("rootfs", doc, board, store, stages)
        self.stages = list(stages)
        self._modes = {package.name: dict(package.modes) for package in packages}
        self._capabilities = {package.name: dict(package.capabilities) for package in packages}
        self._system = [user for package in packages for user in package.users]
        self._manifest: Manifest | None = None
        self._merging = threading.Lock()

    def inputs(self) -> dict[str, Any]:
        return self.made_from(
            packages={stage.package: stage.content() for stage in self.stages},
            modes=self._modes,
            capabilities={
                name: {path: list(words) for path, words in chosen.items()}
                for name, chosen in self._capabilities.items()
                if chosen
            },
            users=[repr(user) for user in (*self.board.users, *self._system)],
            groups=dict(self.board.groups),
            private_keys=list(self.board.private_keys),
            hostname=self.board.hostname,
            owners=dict(self.board.owners),
            overlays=self._overlays(),
        )

    def _overlays(self) -> dict[str, str]:
        """What each file of the overlays is, by its place below ``board/``."""
        found: dict[str, str] = {}
        for overlay in self.board.overlays:
            place = f"{overlay.parent.name}/{overlay.name}"
            found |= {f"{place}/{path}": word for path, word in _read_overlay(overlay).items()}
        return found

    def manifest(self) -> Manifest:
        """What the root file system holds, as it was when first asked for."""
        with self._merging:
            self._manifest = self._manifest or self._merge()
            return self._manifest

    def settled(self) -> Manifest:
        """What the finished result says. Raises KilnError where an overlay is another one now."""
        manifest = self.manifest()
        if manifest.digest() != self.built().notes["content"]:
            raise KilnError("an overlay was edited meanwhile", where=self.id, hint="run the same command again")
        return manifest

    def _merge(self) -> Manifest:
        packages: list[Layer] = []
        for stage in self.stages:
            name, root = stage.package, stage.sound().root
            nodes = tree_nodes(root, name, modes=self._modes[name], capabilities=self._capabilities[name])
            packages.append((name, nodes))
        overlays: list[Layer] = []
        for path in self.board.overlays:
            name = f"overlay:{path.parent.name}"
            overlays.append((name, tree_nodes(path, name)))
        accounts = account_nodes(self.board.users, system=self._system, groups=self.board.groups)
        hostname = file_node("etc/hostname", f"{self.board.hostname}\n".encode(), package="board")
        board = [hostname, console(), *services.inittab(packages, overlays)]
        layers = [*packages, ("users", accounts), ("board", board), *overlays]
        shipped = [(name, [node for node in nodes if is_shipped(node)]) for name, nodes in layers]
        # What a board lays over its packages, it means to win.
        own = {name for name, _ in overlays}
        owners = {node.path: name for name, nodes in shipped if name in own for node in nodes if node.kind != "dir"}
        manifest = Manifest.merge(shipped, owners=owners | dict(self.board.owners))
        return Manifest(tuple(secrets.guarded(manifest.nodes, self.board.private_keys)))

    def fill(self, work: Work) -> dict[str, Any]:
        inputs, manifest = self.inputs(), self.manifest()
        if inputs != self.inputs():
            raise KilnError("an overlay was edited meanwhile", where=self.id, hint="run the same command again")
        rows = b",\n".join(digest.canonical(row) for row in manifest.to_json())
        (work.root / "manifest.json").write_bytes(b"[\n" + rows + b"\n]\n")
        return {"content": manifest.digest()}


def console() -> Node:
    """The kernel opens the console of an initramfs before anything could mount /dev."""
    return Node(path="dev/console", kind="char", mode=0o600, device=(5, 1), package="board")


def is_shipped(node: Node) -> bool:
    """Whether something is for the image, not only for those who make it or compile for it."""
    made = services.is_fragment(node) or node.path.endswith(_FOR_LINKERS)
    return not made and not f"{node.path}/".startswith(_FOR_MAKERS)


def _read_overlay(path: Path) -> dict[str, str]:
    try:
        return digest.read_tree(path)[1]
    except (OSError, ValueError) as error:
        hint = "an overlay holds readable files, folders and links"
        raise KilnError(str(error), where=os.fspath(path), hint=hint) from error

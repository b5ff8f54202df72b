"""The image of a board: all files that it is shipped as, with their checksums."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.image import budget
from kiln.image.licenses import Licenses
from kiln.image.manifest import Manifest
from kiln.image.media import Shown
from kiln.image.output import SUMS, Output
from kiln.image.targets import Part, Rootfs
from kiln.kernel import PrebuiltKernel, kernel_image
from kiln.stage import Stage
from kiln.store import Work
from kiln.target import closure, key


class Image(Part):
    """A board's kernel and the media that it asks for, linked into its output folder.

    ``others`` are media that it does not ask for: those that are there stay linked.
    """

    def __init__(
        self,
        rootfs: Rootfs,
        kernel: Stage | PrebuiltKernel,
        licenses: Licenses,
        media: Sequence[Shown],
        others: Sequence[Shown],
        output: Path,
    ) -> None:
        doc = f"bootable images of {rootfs.board.name}: {', '.join(['kernel', *(medium.id for medium in media)])}"
        super().__init__("image", doc, rootfs.board, rootfs.store, (rootfs, kernel, licenses, *media))
        self._rootfs = rootfs
        self._kernel = kernel
        self._parts = (rootfs, licenses, *media)
        self._others = others
        self._output = Output.of(self, self.board.name, output)
        self.output = self._output.folder
        self.place = f"{os.path.relpath(self.output)}/"

    def inputs(self) -> dict[str, Any]:
        parts = {target.id: target.content() for target in (self._kernel, *self._parts)}
        more: dict[str, Any] = {"local": self._origins()} if self.local else {}
        if self.board.budget:
            more["budget"] = dict(self.board.budget)
        return self.made_from(parts=parts, **more)

    def files(self) -> dict[str, Path]:
        """The finished files by name."""
        made = [path for part in self._parts for path in part.built().root.iterdir()]
        found = {path.name: path for path in (kernel_image(self._kernel.built()), *made)}
        return dict(sorted(found.items()))

    def fill(self, work: Work) -> dict[str, Any]:
        for target in (self._kernel, *self._parts):
            target.sound()
        files = self.files()
        sizes = {name: path.stat().st_size for name, path in files.items()}
        budget.check(self.board.budget, sizes, _by_package(self._rootfs.manifest()))
        lines = [f"{digest.of_file(path).hash}  {name}\n" for name, path in files.items()]
        (work.root / SUMS).write_text("".join(lines))
        if self.local:
            (work.root / "LOCAL").write_text("".join(f"{line}\n" for line in self._origins()))
        return {}

    def build(self) -> None:
        self._remember()
        super().build()

    def published(self) -> bool:
        return self._output.shows(self._shown())

    def publish(self) -> None:
        keep = {name for other in self._others if other.entry() for name in other.files()}
        self._output.show(self._shown(), keep=keep)

    def clean(self) -> bool:
        self._output.clear()
        return super().clean()

    def _shown(self) -> Mapping[str, Path]:
        return self.files() | {path.name: path for path in self.built().root.iterdir()}

    def _origins(self) -> list[str]:
        """What made this image a local one."""
        stages = [target for target in closure(self) if isinstance(target, Stage)]
        return [f"{stage.id} from {stage.origin}" for stage in stages if stage.origin]

    def _remember(self) -> None:
        """Tell the stores what this image reaches, before it is there: a kill between the two would keep it from gc."""
        found = key(self.inputs())
        reached = {self.store: [self.store.entry_path(self.name, self.version, found).name] if found else []}
        for part in closure(*self.deps, *self._others):
            entry = part.entry()
            if entry:
                reached.setdefault(part.store, []).append(entry.path.name)
        for store, names in reached.items():
            store.remember(os.fspath(self.output), names)


def _by_package(manifest: Manifest) -> dict[str, int]:
    """What the files of each package take, in bytes."""
    sizes: dict[str, int] = {}
    for node in manifest.nodes:
        sizes[node.package] = sizes.get(node.package, 0) + node.size
    return sizes

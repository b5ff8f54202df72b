"""Licences: what an image is made of, and under which terms, as one file beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.board import Board
from kiln.image.targets import Part
from kiln.recipe.load import Recipe
from kiln.recipe.step import LICENSES
from kiln.stage import Stage
from kiln.store import Entry, Store, Work
from kiln.target import UNKNOWN

_RULE = "=" * 78


class Licenses(Part):
    """The licences of every package in the image, those of libraries that are compiled into others included."""

    def __init__(self, board: Board, stages: Sequence[Stage], recipes: Mapping[str, Recipe], store: Store) -> None:
        super().__init__("licenses", "the licences of all that is in the image", board, store, stages)
        self._stages = stages
        self._terms = {
            stage.package: f"{stage.package} {stage.version}: {recipes[stage.package].package.license}"
            for stage in stages
        }
        if board.kernel:
            self._terms["linux"] = f"linux, as {board.kernel.name}, built elsewhere: {board.kernel.license}"

    def inputs(self) -> dict[str, Any]:
        # Not the packages' whole contents: few changes of a program change its terms.
        return self.made_from(licenses=self._terms, texts={stage.package: _texts(stage) for stage in self._stages})

    def fill(self, work: Work) -> dict[str, Any]:
        with (work.root / "licenses.txt").open("w") as file:
            file.writelines(f"{line}\n" for line in self._terms.values())
            for stage in self._stages:
                for path in _files(stage.sound()):
                    text = path.read_text(encoding="utf-8", errors="replace").strip()
                    file.write(f"\n{_RULE}\n{stage.package} {stage.version}, {path.name}\n{_RULE}\n\n{text}\n")
        return {}


def _texts(stage: Stage) -> Any:
    """The digest of each licence file of a package."""
    entry = stage.entry()
    return {path.name: digest.of_file(path).hash for path in _files(entry)} if entry else UNKNOWN


def _files(entry: Entry) -> list[Path]:
    return sorted((entry.root / LICENSES).glob("*/*"))

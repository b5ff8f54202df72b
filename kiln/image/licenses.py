"""Licences: what an image is made of, and under which terms, as one file beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from kiln.board import Board
from kiln.image.targets import Part
from kiln.recipe.load import Recipe
from kiln.recipe.step import LICENSES
from kiln.stage import Stage
from kiln.store import Store, Work

_RULE = "=" * 78


class Licenses(Part):
    """The licences of every package in the image, those of libraries that are compiled into others included."""

    def __init__(self, board: Board, stages: Sequence[Stage], recipes: Mapping[str, Recipe], store: Store) -> None:
        super().__init__("licenses", "the licences of all that is in the image", board, store, stages)
        self._stages = stages
        self._terms = {stage.package: recipes[stage.package].package.license for stage in stages}

    def inputs(self) -> dict[str, Any]:
        return self.made_from(licenses=self._terms, packages={stage.package: stage.content() for stage in self._stages})

    def fill(self, work: Work) -> dict[str, Any]:
        with (work.root / "licenses.txt").open("w") as file:
            for stage in self._stages:
                file.write(f"{stage.package} {stage.version}: {self._terms[stage.package]}\n")
            for stage in self._stages:
                for path in sorted((stage.sound().root / LICENSES / stage.package).glob("*")):
                    text = path.read_text(encoding="utf-8", errors="replace").strip()
                    file.write(f"\n{_RULE}\n{stage.package} {stage.version}, {path.name}\n{_RULE}\n\n{text}\n")
        return {}

"""The graph of a board: every target that its images are made from."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from kiln import board as boards
from kiln.board import Board
from kiln.errors import KilnError, nearest
from kiln.image.targets import Archive, Disk, Ext4, Image, Rootfs
from kiln.jobs import Jobserver
from kiln.recipe import load as recipe_load
from kiln.recipe.load import Recipe
from kiln.recipe.step import Step
from kiln.settings import Settings
from kiln.source.tree import Patched, SourceTree
from kiln.stage import Stage, Workshop
from kiln.store import Store
from kiln.target import Target
from kiln.tools import Tools

KERNEL = "linux"

# What a package that is compiled for the board gets without asking.
_TOOLCHAIN = "toolchain"
_LIBC = ("linux-headers", "musl")


class Graph:
    """The targets of one board, made from recipes when first asked for."""

    def __init__(self, settings: Settings, board: Board, recipes: Mapping[str, Recipe]) -> None:
        self.settings = settings
        self.board = board
        self.recipes = recipes
        self.store = Store(settings.store)
        self.tools = Tools(settings, self.store)
        self.jobserver = Jobserver(settings.jobs)
        logs = settings.output / "logs"
        self._workshop = Workshop(store=self.store, tools=self.tools, jobserver=self.jobserver, logs=logs)
        self._stages: dict[str, dict[str, Stage]] = {}
        self._sources: dict[tuple[str, str], SourceTree] = {}

    @staticmethod
    def load(settings: Settings, board: str) -> "Graph":
        recipes = recipe_load.load(settings.root / "packages")
        return Graph(settings, boards.load(settings.root, board, recipes), recipes)

    def version(self, package: str) -> str:
        return self.board.versions.get(package, self.recipes[package].package.version)

    def stages(self, package: str) -> dict[str, Stage]:
        """The stages of a package by name, in order."""
        if package not in self._stages:
            self._stages[package] = self._make_stages(self.recipes[package])
        return self._stages[package]

    def result(self, package: str) -> Stage:
        """The stage that holds what a package installs."""
        if package not in self.recipes:
            raise KilnError(f"there is no package {package!r}", hint=nearest(package, self.recipes))
        return self.stages(package)["build"]

    def source(self, package: str, version: str) -> SourceTree:
        if (package, version) not in self._sources:
            pins = self.recipes[package].package.sources
            if version not in pins:
                raise KilnError(f"{package} has no pinned source for version {version}", where=self._file(package))
            self._sources[package, version] = SourceTree(package, version, pins[version], self.settings, self.store)
        return self._sources[package, version]

    def runtime(self) -> list[str]:
        """The packages of the image: those that the board names, and what they need at run time."""
        return sorted(self._closure(self.board.packages, lambda name: self.recipes[name].package.runtime))

    @cached_property
    def image(self) -> Image:
        names, kernel = self.runtime(), self.result(KERNEL)
        modes = {name: dict(self.recipes[name].package.modes) for name in names}
        rootfs = Rootfs(self.board, [self.result(name) for name in names], modes, self.store)
        ext4 = Ext4(rootfs, self.tools)
        archives = (Archive("cpio", rootfs, self.tools), Archive("tar", rootfs, self.tools))
        disk = Disk(ext4, kernel, self.tools)
        return Image(rootfs, kernel, (*archives, ext4), disk, self.settings.output / self.board.name)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Every target: those of the board's image first, then the packages that it leaves out, and all tools."""
        others = [target for name in self.recipes for stage in self.stages(name).values() for target in stage.closure]
        return tuple({target.id: target for target in (*self.image.closure, *others, *self.tools)}.values())

    def needed(self, target: Target) -> bool:
        """Whether the board's image needs a lazy target made, because a user of it must be made."""
        users = [user for user in self.image.closure if target in user.deps]
        return any(self.needed(user) if user.lazy else not user.entry() for user in users)

    def _make_stages(self, recipe: Recipe) -> dict[str, Stage]:
        package = recipe.package
        version = self.version(package.name)
        source = self._source_of(recipe, version)
        tools = (*package.tools, _TOOLCHAIN) if package.libc else package.tools
        libs = (*package.libs, *_LIBC) if package.libc else package.libs
        if package.libc and package.name in (_TOOLCHAIN, *_LIBC):
            hint = "it is what others are compiled with: libc=False"
            raise KilnError("cannot be compiled with itself", where=self._file(package.name), hint=hint)
        lib_names = sorted(self._closure(libs, lambda name: self.recipes[name].package.libs))
        stages: dict[str, Stage] = {}
        for stage, phases in package.stages.items():
            stages[stage] = Stage(
                package,
                version,
                stage,
                self._workshop,
                steps={phase: self._record(recipe, phase) for phase in phases},
                source=source,
                before=next(reversed(stages.values()), None),
                used=[self.result(name) for name in tools],
                libs=[self.result(name) for name in lib_names],
            )
        return stages

    def _source_of(self, recipe: Recipe, version: str) -> SourceTree | Patched | None:
        package = recipe.package
        if package.source is None:
            return None
        tree = self.source(package.source if isinstance(package.source, str) else package.name, version)
        return Patched(tree, package.name, recipe.patches, self.tools) if recipe.patches else tree

    def _record(self, recipe: Recipe, phase: str) -> Step:
        step = Step(recipe.folder, self.board.options.get(recipe.package.name, {}))
        function = recipe.package.phase(phase)
        if function:
            try:
                function(step, self.board)
            except Exception as error:
                raise recipe_load.failure(error, recipe.folder) from error
        return step

    def _closure(self, names: Iterable[str], needs: Callable[[str], Iterable[str]]) -> set[str]:
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += needs(name)
        return found

    def _file(self, package: str) -> str:
        return os.path.relpath(self.recipes[package].folder / "recipe.py", self.settings.root)

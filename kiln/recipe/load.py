"""Finding recipes: every ``packages/<name>/recipe.py``, checked together."""

import graphlib
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

from kiln.errors import KilnError, nearest
from kiln.recipe.package import Autotools, Kconfig, Meson, Package


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A package and the folder of its recipe."""

    package: Package
    folder: Path

    @property
    def patches(self) -> list[Path]:
        return sorted((self.folder / "patches").glob("*.patch"))


def load(folder: Path) -> dict[str, Recipe]:
    """The recipes below ``folder`` by name. Raises KilnError with file and line for the first mistake."""
    recipes = {}
    for file in sorted(folder.glob("*/recipe.py")):
        package = _package(file)
        recipes[package.name] = Recipe(package=package, folder=file.parent)
    for recipe in recipes.values():
        _check_names(recipe, recipes)
    order(recipes, {name: (*recipe.package.tools, *recipe.package.possible_libs) for name, recipe in recipes.items()})
    return recipes


def order(recipes: Mapping[str, Recipe], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """The names in ``needs``, each after those that it needs. Raises KilnError for a circle."""
    try:
        return list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = error.args[1][::-1]
        where = os.fspath(recipes[circle[0]].folder / "recipe.py")
        raise KilnError(f"packages need each other in a circle: {' -> '.join(circle)}", where=where) from error


def failure(error: Exception, folder: Path) -> KilnError:
    """What went wrong in a recipe, with the line of the recipe where it did."""
    if isinstance(error, SyntaxError):
        return KilnError(f"{error.msg}: {(error.text or '').strip()}", where=f"{error.filename}:{error.lineno}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(os.fspath(folder))]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else os.fspath(folder)
    if isinstance(error, KilnError):
        place = f"{where}, {error.where}" if error.where else where
        return KilnError(error.message, where=place, hint=error.hint)
    text = str(error) or type(error).__name__
    unknown = re.search(r"unexpected keyword argument '(\w+)'", text)
    if unknown:
        known = {item.name for style in (Package, Autotools, Kconfig, Meson) for item in fields(style) if item.init}
        return KilnError(f"there is no field {unknown[1]!r}", where=where, hint=nearest(unknown[1], known))
    missing = re.search(r"(\w+)\.__init__\(\) missing .*arguments?: (.*)", text)
    if missing:
        hint = "docs/add-a-package.md shows what is needed"
        return KilnError(f"{missing[1]} lacks {missing[2]}", where=where, hint=hint)
    return KilnError(f"{type(error).__name__}: {text}", where=where)


def _package(file: Path) -> Package:
    module = ModuleType(f"packages.{file.parent.name}.recipe")
    try:
        # Not by import, whose bytecode cache trusts time stamps, which a restored file can repeat.
        exec(compile(file.read_bytes(), os.fspath(file), "exec"), module.__dict__)  # noqa: S102
    except Exception as error:
        raise failure(error, file.parent) from error
    found = [value for value in vars(module).values() if isinstance(value, Package)]
    if len(found) != 1 or found[0].name != file.parent.name:
        names = ", ".join(package.name for package in found) or "none"
        hint = f"a recipe holds one package, named like its folder: {file.parent.name}"
        raise KilnError(f"found the packages: {names}", where=os.fspath(file), hint=hint)
    return found[0]


def _check_names(recipe: Recipe, recipes: Mapping[str, Recipe]) -> None:
    package, file = recipe.package, recipe.folder / "recipe.py"
    shared = (package.source,) if isinstance(package.source, str) else ()
    wanted = {
        "tools": package.tools,
        "libs": sorted(package.possible_libs),
        "runtime": package.runtime,
        "source": shared,
    }
    for kind, names in wanted.items():
        for name in names:
            if name not in recipes:
                raise KilnError(f"there is no package {name!r}", where=f"{file}, {kind}", hint=nearest(name, recipes))

"""Synthetic projects of many packages, and the same graph for ninja and make."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln.store import Work
from kiln.target import Target, closure
from kiln.tools import ToolsTree
from tests.project import Project

# A group is what a developer would call a stack: its packages use each other and the group below.
_GROUP = 40
_CHAIN = 300
_MENU = "DEFAULT linux\nLABEL linux\n  LINUX @KERNEL@\n  APPEND @CMDLINE@\n"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What the recipe of one package says: ``text`` is its result, ``note`` does not show in it."""

    package: str
    text: str = "1"
    note: str = ""


def graph(count: int, seed: int = 0) -> dict[str, tuple[str, ...]]:
    """``count`` packages and the libs of each, all of them earlier ones, 0 to 4.

    The groups form a tree, as the stacks of a distribution do: a package needs dozens of others, through ten to thirty
    levels. One chain of 300 (a third of a small graph) goes deeper than any recursion.
    """
    chance = random.Random(seed)
    chain = min(_CHAIN, count // 3)
    names = [f"p{number:05}" for number in range(count - chain)]
    libs: dict[str, tuple[str, ...]] = {}
    for number, name in enumerate(names):
        group, place = divmod(number, _GROUP)
        below = (group - 1) // 4 * _GROUP
        found: set[int] = set()
        for _ in range(chance.randint(0, 4)):
            if place and (not group or chance.random() < 0.6):
                found.add(number - chance.randint(1, place))
            elif group:
                found.add(below + chance.randrange(_GROUP))
        libs[name] = tuple(names[index] for index in sorted(found))
    links = [f"chain{number:03}" for number in range(chain)]
    return libs | {name: (before,) if before else () for name, before in zip(links, ["", *links], strict=False)}


def users(libs: Mapping[str, tuple[str, ...]], package: str) -> set[str]:
    """The packages that are built anew when the content of ``package`` changes, without itself."""
    found = {package}
    for name, needed in libs.items():  # dependencies come first
        if found.intersection(needed):
            found.add(name)
    return found - {package}


def write(project: Project, libs: Mapping[str, tuple[str, ...]]) -> None:
    """The recipes, a kernel that is none, and a board with all of them."""
    for name in libs:
        apply(project, libs, Edit(package=name))
    project.recipe("linux", phases=_install("boot/linux", "a kernel"))
    project.file("board/common/extlinux.conf", _MENU)
    project.board(packages=list(libs))


def apply(project: Project, libs: Mapping[str, tuple[str, ...]], edit: Edit) -> None:
    run = f"\n    step.run('true', '{edit.note}')" if edit.note else ""
    # A hundred to a folder, since a file system of one huge folder would be another benchmark.
    phases = _install(f"usr/share/{edit.package[:-2]}/{edit.package}", edit.text) + run
    project.recipe(edit.package, f"libs={libs[edit.package]!r}", phases=phases)


def _install(path: str, text: str) -> str:
    return f'@package.install\ndef install(step: Step, board: Board) -> None:\n    step.write("{path}", "{text}")'


def prime(project: Project) -> None:
    """Fill the store with what a build of the image would leave: packages without a sandbox, images as they are."""
    for target in closure(project.graph().image):
        if phases := getattr(target, "phases", None):
            _publish(target, phases["install"])
        elif not isinstance(target, ToolsTree):
            target.build()


def _publish(target: Target, actions: list[dict[str, Any]]) -> None:
    def fill(work: Work) -> dict[str, Any]:
        for action in actions:
            path = work.root / action["write"].removeprefix("/dest/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(action["text"])
        return {}

    inputs = target.inputs()
    assert inputs is not None
    target.store.build(target.name, target.version, inputs, fill)


def write_peers(folder: Path, libs: Mapping[str, tuple[str, ...]]) -> None:
    """The same graph as ``build.ninja`` and as ``Makefile``: a node follows from ``NAME.in`` and its libs."""
    folder.mkdir()
    ninja = ["rule node", f"  command = {_node('$recipe', '$libs', '$out')}", "  restat = 1"]
    ninja += ["rule image", "  command = touch $out"]
    make = ["all: image"]
    for name, needed in libs.items():
        apply_peer(folder, Edit(package=name))
        recipe, below = f"{name}.in", " ".join(needed)
        ninja += [f"build {name}: node {recipe} {below}", f"  recipe = {recipe}", f"  libs = {below}"]
        make += [f"{name}: {recipe} {below}", f"\t@{_node(recipe, below, name)}"]
    everything = " ".join(libs)
    (folder / "build.ninja").write_text("\n".join([*ninja, f"build image: image {everything}\n"]))
    (folder / "Makefile").write_text("\n".join([*make, f"image: {everything}", "\t@touch $@\n"]))


def apply_peer(folder: Path, edit: Edit) -> None:
    (folder / f"{edit.package}.in").write_text(f"{edit.text}\n{edit.note}\n")


def _node(recipe: str, libs: str, out: str) -> str:
    """Next to nothing to run; replaces only what differs, which is an early cutoff for make, and for ninja's restat."""
    made = f"head -n1 {recipe} | cat - {libs} | cksum > {out}.new"
    return f"{made}; if cmp -s {out}.new {out}; then rm {out}.new; else mv {out}.new {out}; fi"

"""The tasks that doit walks: one for each target of the board, and one for each thing that a user does with them.

doit orders and runs; whether a target is fresh is for the store to say, so doit keeps no database of its own.
"""

import inspect
import os
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from doit import doit_cmd
from doit.action import BaseAction
from doit.exceptions import InvalidDodoFile, TaskError, TaskFailed

from kiln import verbs
from kiln.errors import UNWRITABLE, KilnError, nearest
from kiln.graph import Graph
from kiln.recipe.package import Kconfig
from kiln.report.progress import Progress
from kiln.report.why import reasons
from kiln.repro import repro
from kiln.settings import Settings
from kiln.target import Target
from kiln.vm.qemu import find_tap, own_program

DEFAULT_BOARD = "qemu-x86_64"

# Every NAME=value that a command line may hold.
VARIABLES = {
    "BOARD": "the board to build for, one of configs/; 'all' does it for each of them",
    "BOOT": "what `doit qemu` boots: cpio (the default), ext4 or disk",
    "APPEND": "kernel parameters that `doit qemu` adds",
    "NET": "the network of `doit qemu`: user (the default), or tap:NAME, an interface of this machine",
    "DEV": "a package that is built from the working tree SRC; `doit dev` sets it",
    "SRC": "the working tree that `doit dev` builds from",
}

# More threads than processors: downloads and packing overlap with compilers, whose number the jobserver limits.
_THREADS = 8

DOIT_CONFIG = {
    "default_tasks": ["image"],
    "backend": "sqlite3",
    "dep_file": ":memory:",
    "num_process": _THREADS,
    "par_type": "thread",
    "reporter": Progress,
    "verbosity": 2,
}


class Action(BaseAction):  # type: ignore[misc]
    """Something that a task does; ``target`` is what it makes, if anything."""

    out = err = result = None

    def __init__(self, run: Callable[..., None], *, target: Target | None = None, interactive: bool = False) -> None:
        self.run = run
        self.target = target
        self.interactive = interactive
        self.values: dict[str, Any] = {}
        self.task: Any = None

    def execute(self, out: Any = None, err: Any = None) -> TaskFailed | TaskError | None:  # noqa: ARG002
        try:
            self.run(*(self.task.pos_arg_val or []) if self.task.pos_arg else (), **(self.task.options or {}))
        except KilnError as error:
            return TaskFailed(str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                return TaskFailed(str(KilnError(os.strerror(error.errno), where=error.filename)))
            return TaskError(f"a mistake in kiln itself, please report it\n{traceback.format_exc()}")
        return None

    def __str__(self) -> str:
        return self.task.name if self.task else "action"


class Fresh:
    """Tells doit whether a target is up to date; ``doit info`` prints why not."""

    # The tasks that the command line names: these are made even if nothing needs them.
    asked: Collection[str] = ()

    # doit asks for it each time, and finding it out takes long.
    __signature__ = inspect.Signature()

    def __init__(self, target: Target, graph: Graph) -> None:
        self.target = target
        self.graph = graph

    def __call__(self) -> bool:
        target = self.target
        target.store.sweep()  # where all is fresh, nobody else does
        if target.look():
            return True
        return target.lazy and target.id not in self.asked and not self.graph.needed(target)

    def __repr__(self) -> str:
        return "; ".join(reasons(self.target)) or "what it is made from may come out different"


def task_kiln() -> Iterator[dict[str, Any]]:
    try:
        variables = _variables()
        graph = Graph.load(Settings.read(Path.cwd()), variables["BOARD"] or DEFAULT_BOARD, _trees(variables))
        if variables["BOOT"] not in (None, *graph.roads):
            hint = nearest(str(variables["BOOT"]), graph.roads)
            raise KilnError(f"cannot boot {graph.board.name} by {variables['BOOT']!r}", where="BOOT", hint=hint)
        yield from _target_tasks(graph)
        yield from _verb_tasks(graph, variables)
    except KilnError as error:
        raise InvalidDodoFile(str(error)) from error


def _variables() -> dict[str, str | None]:
    given = doit_cmd._CMDLINE_VARS or {}
    for name in given:
        if name not in VARIABLES:
            raise KilnError(f"there is no variable {name!r}", hint=nearest(name, VARIABLES))
    return {name: given.get(name) for name in VARIABLES}


def _trees(variables: dict[str, str | None]) -> dict[str, Path]:
    """The working tree that stands in for the source of a package."""
    package, folder = variables["DEV"], variables["SRC"]
    if not package and not folder:
        return {}
    if not package or not folder:
        raise KilnError("a package and its working tree go together", hint="doit dev PACKAGE SRC=FOLDER")
    tree = Path(folder).expanduser().absolute()
    if not tree.is_dir():
        raise KilnError(f"there is no folder {tree}", where="SRC", hint="doit dev PACKAGE SRC=FOLDER")
    return {package: tree}


def _target_tasks(graph: Graph) -> Iterator[dict[str, Any]]:
    groups = set()
    for target in graph.targets:
        basename, _, name = target.id.partition(":")
        task = {
            "actions": [Action(target.build, target=target)],
            "uptodate": [Fresh(target, graph)],
            "task_dep": [dep.id for dep in target.deps],
            "clean": [Action(lambda target=target: verbs.clean(target))],
            "doc": target.doc,
        }
        if name and basename not in groups:
            groups.add(basename)
            yield {"basename": basename, "name": None, "doc": _group_doc(graph, basename)}
        yield task | ({"basename": basename, "name": name} if name else {"basename": basename})


def _group_doc(graph: Graph, name: str) -> str:
    if name in graph.recipes:
        return f"{graph.recipes[name].package.summary}, {graph.version(name)}"
    return "the trees of pinned tools that builds run in"


def _verb_tasks(graph: Graph, variables: dict[str, str | None]) -> Iterator[dict[str, Any]]:
    image = [graph.image.id] if own_program(graph.board.arch.name) else [graph.image.id, f"tools:{graph.vm}"]
    boot, append, tap = variables["BOOT"], variables["APPEND"] or "", find_tap(variables["NET"] or "user")

    def task(
        name: str, run: Callable[..., None], doc: str, *, interactive: bool = False, **more: Any
    ) -> dict[str, Any]:
        action = Action(run, interactive=interactive)
        return {"basename": name, "actions": [action], "uptodate": [False], "doc": doc} | more

    yield task(
        "qemu", lambda: verbs.qemu(graph, boot or "cpio", append, tap),
        f"boot {graph.board.name} here (BOOT={', '.join(graph.roads)}; APPEND='kernel parameters'; NET=tap:NAME)",
        interactive=True, task_dep=image,
    )  # fmt: skip
    yield {"basename": "test", "name": None, "doc": f"boot {graph.board.name} by every road and check it from inside"}
    for road in graph.roads:
        tested = task("test", lambda road=road: verbs.test(graph, road), f"boot by {road} and check", task_dep=image)
        yield tested | {"name": road}
    yield task(
        "diagnose", lambda *places: verbs.diagnose(graph, *places),
        "say what went wrong in a boot: LOG, - for standard input, or the newest log of the board", pos_arg="log",
    )  # fmt: skip
    yield task("doctor", lambda: verbs.doctor(graph), "check this machine, and say what to do about each finding")
    yield task(
        "shell", lambda *names: verbs.shell(graph, *names),
        "go back into the sandbox of a package, where its build failed",
        interactive=True, pos_arg="packages",
    )  # fmt: skip
    yield task(
        "why", lambda *names: verbs.why(graph, *names),
        "say what would be made for a target (image, if none is named), and for which change", pos_arg="targets",
    )  # fmt: skip
    yield task(
        "diff", lambda *places: verbs.diff(graph, *places),
        "compare two images or manifests by path: boards, output folders, manifest.json files", pos_arg="images",
    )  # fmt: skip
    dry = {"name": "dry", "long": "dry-run", "type": bool, "default": False, "help": "only say what would be freed"}
    yield task(
        "gc", lambda *, dry: verbs.gc(graph, dry=dry),
        "free the room of results that no board reaches", params=[dry],
    )  # fmt: skip
    yield task("verify", lambda: verbs.verify(graph), "look at every file of the store, and set damaged results aside")
    yield task("store", lambda: verbs.store(graph), "show what takes how much room")
    yield task(
        "repro", lambda *names: repro(graph, names),
        "build packages (all and the images, if none is named) again elsewhere, and compare",
        interactive=True, pos_arg="packages",
    )  # fmt: skip
    yield task(
        "new-package", lambda *words: verbs.new_package(graph, _taken(graph, variables), *words),
        "write the first recipe of a package: NAME, and a URL, archive, git URL#TAG or Debian source file",
        interactive=True, pos_arg="words",
    )  # fmt: skip
    told = {"name": "dry", "long": "dry-run", "type": bool, "default": False, "help": "only say what would be written"}
    yield task(
        "track", lambda *words, dry: verbs.track(graph, *words, dry=dry),
        "look for newer versions of all packages, or write the pins of one's newest into its recipe",
        interactive=True, params=[told], pos_arg="words",
    )  # fmt: skip
    yield task("tools:lock", lambda: verbs.lock(graph), "pin the tools anew, with apt's solver")
    for name, recipe in graph.recipes.items():
        if isinstance(recipe.package, Kconfig):
            configure = graph.stages(name)["configure"]
            yield task(
                f"{name}:menuconfig", lambda name=name: verbs.menuconfig(graph, name),
                f"edit the configuration of {name}, and keep the difference in board/{graph.board.name}/{name}/",
                interactive=True, task_dep=[configure.id],
            )  # fmt: skip


def _taken(graph: Graph, variables: dict[str, str | None]) -> set[str]:
    """The words behind ``doit`` that mean something already."""
    tasks = (*_target_tasks(graph), *_verb_tasks(graph, variables))
    commands = {command.get_name() for command in doit_cmd.DoitMain.DOIT_CMDS}
    return {task["basename"].partition(":")[0] for task in tasks} | commands | {"dev"}

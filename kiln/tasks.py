"""The tasks that doit walks: one for each target of the board, and one for each thing that a user does with them.

doit orders and runs; whether a target is fresh is for the store to say, so doit keeps no database of its own.
"""

import inspect
import os
import traceback
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doit import doit_cmd
from doit.action import BaseAction
from doit.exceptions import InvalidDodoFile, TaskError, TaskFailed

from kiln.errors import UNWRITABLE, KilnError, nearest
from kiln.graph import Graph
from kiln.recipe.package import Kconfig
from kiln.report.progress import Progress
from kiln.report.why import reasons
from kiln.repro import repro
from kiln.settings import Settings
from kiln.stage import Stage
from kiln.target import Target
from kiln.verbs import boot, cpio, dracut, house, initramfs, kconfig, packages
from kiln.verbs.boot_report import boot_report
from kiln.verbs.dev_init import dev_init
from kiln.verbs.graph import graph as draw
from kiln.verbs.netboot import HTTP_PORT, TFTP_PORT, serve
from kiln.verbs.size import size
from kiln.vm.qemu import find_tap, own_program
from kiln.vm.roads import ROADS

DEFAULT_BOARD = "qemu-x86_64"

# Every NAME=value that a command line may hold.
VARIABLES = {
    "BOARD": "the board to build for, one of configs/; 'all' does it for each of them",
    "BOOT": "what `doit qemu` boots: cpio (the default), or another road that `doit help qemu` names",
    "APPEND": "kernel parameters that `doit qemu` adds",
    "NET": "the network of `doit qemu`: user (the default), or tap:NAME, an interface of this machine",
    "ADDRESS": "the address of this machine that `doit serve` offers images on (127.0.0.1)",
    "PORT": f"the port that `doit serve` has for HTTP ({HTTP_PORT})",
    "TFTP": f"the port that `doit serve` has for TFTP ({TFTP_PORT})",
    "FILE": "the file that `doit dev-init` watches (that of the board's /init)",
    "PLACE": "where `doit dev-init` has it in the image (init)",
    "COMPRESS": "the compressor of `doit cpio:repack` and `doit cpio:append`",
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
            return target.published()
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
    groups, whole = set(), {target.id for target in graph.targets}
    for target in graph.targets:
        basename, _, name = target.id.partition(":")
        if basename in whole:  # a task of its own, not the group of such tasks
            basename, name = target.id, ""
        task = {
            "actions": [Action(target.build, target=target)],
            "uptodate": [Fresh(target, graph)],
            "task_dep": [dep.id for dep in target.deps],
            "clean": [Action(lambda target=target: house.clean(target))],
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
    road, append, tap = variables["BOOT"] or "cpio", variables["APPEND"] or "", find_tap(variables["NET"] or "user")

    def task(
        name: str, run: Callable[..., None], doc: str, *, interactive: bool = False, **more: Any
    ) -> dict[str, Any]:
        action = Action(run, interactive=interactive)
        return {"basename": name, "actions": [action], "uptodate": [False], "doc": doc} | more

    yield task(
        "qemu", lambda: boot.qemu(graph, road, append, tap),
        f"boot {graph.board.name} here (BOOT={', '.join(graph.roads)}; APPEND='kernel parameters'; NET=tap:NAME)",
        interactive=True, task_dep=_needed(graph, road),
    )  # fmt: skip
    yield {"basename": "test", "name": None, "doc": "boot the image by each of its roads, and check it from inside"}
    yield {
        "basename": "matrix",
        "actions": None,
        "doc": f"boot {graph.board.name} by every road there is, and check it",
        "task_dep": [f"test:{name}" for name in graph.roads],
    }
    for name in graph.roads:
        own = set(ROADS[name].media) <= set(graph.board.images)
        tested = task(
            "test" if own else f"test:{name}", lambda name=name: boot.test(graph, name),
            f"boot by {name} ({ROADS[name].doc}) and check", task_dep=_needed(graph, name),
        )  # fmt: skip
        yield tested | ({"name": name} if own else {})
    yield {
        "basename": "media",
        "actions": None,
        "doc": f"everything that {graph.board.name} can be shipped as, but what is another build of its kernel",
        "task_dep": [graph.image.id, *(name for name, medium in graph.media.items() if not isinstance(medium, Stage))],
    }
    if "tftp" in graph.roads:
        yield task(
            "netboot", lambda: boot.qemu(graph, "tftp", append, ""),
            f"boot {graph.board.name} here through the iPXE of QEMU's network card (APPEND='kernel parameters')",
            interactive=True, task_dep=_needed(graph, "tftp"),
        )  # fmt: skip
    address = variables["ADDRESS"] or "127.0.0.1"
    ports = _port(variables, "PORT", HTTP_PORT), _port(variables, "TFTP", TFTP_PORT)
    yield task(
        "serve", lambda: serve(graph, address=address, http_port=ports[0], tftp_port=ports[1]),
        "offer kernel, initramfs and iPXE script to machines that boot over the network (ADDRESS=, PORT=, TFTP=)",
        interactive=True, task_dep=[graph.image.id, "cpio"],
    )  # fmt: skip
    yield task(
        "dev-init",
        lambda: dev_init(graph, variables["FILE"] or "", variables["PLACE"] or "", append),
        "boot at each save of /init, or of another file of the image (FILE=./my-rcS PLACE=etc/init.d/rcS)",
        interactive=True, task_dep=_needed(graph, "cpio"),
    )  # fmt: skip
    if "dracut" in graph.recipes:
        yield task(
            "dracut:lint", lambda *places: dracut.lint_(graph, *places),
            "say what is wrong in configurations of dracut, and what to write instead: FILES, or those of the board",
            interactive=True, pos_arg="places", task_dep=[graph.result("dracut").id, graph.kernel.id],
        )  # fmt: skip
        yield task(
            "new-dracut-module", lambda *words: dracut.new_module(graph, *words),
            "write the first files of a module of the board, with a hook for every stage of the initramfs: NAME",
            interactive=True, pos_arg="words", task_dep=[graph.result("dracut").id],
        )  # fmt: skip
    yield task(
        "kconfig:check", lambda *purposes: kconfig.check(graph, *purposes),
        "say what the kernel lacks for a purpose, and the line to write: container, docker, kubernetes, security",
        interactive=True, pos_arg="purposes", task_dep=[kconfig.configured(graph).id],
    )  # fmt: skip
    yield from _cpio_tasks(graph, variables["COMPRESS"] or "", task)
    yield from _initramfs_tasks(graph, task)
    yield from _report_tasks(graph, task)
    yield task(
        "diagnose", lambda *places: boot.diagnose(graph, *places),
        "say what went wrong in a boot: LOG, - for standard input, or the newest log of the board", pos_arg="log",
    )  # fmt: skip
    yield task("doctor", lambda: house.doctor(graph), "check this machine, and say what to do about each finding")
    yield task(
        "shell", lambda *names: packages.shell(graph, *names),
        "go back into the sandbox of a package, where its build failed",
        interactive=True, pos_arg="packages",
    )  # fmt: skip
    yield task(
        "why", lambda *names: house.why(graph, *names),
        "say what would be made for a target (image, if none is named), and for which change", pos_arg="targets",
    )  # fmt: skip
    yield task(
        "diff", lambda *places: house.diff(graph, *places),
        "compare two images or manifests by path: boards, output folders, manifest.json files", pos_arg="images",
    )  # fmt: skip
    dry = {"name": "dry", "long": "dry-run", "type": bool, "default": False, "help": "only say what would be freed"}
    yield task(
        "gc", lambda *, dry: house.gc(graph, dry=dry),
        "free the room of results that no board reaches", params=[dry],
    )  # fmt: skip
    yield task("verify", lambda: house.verify(graph), "look at every file of the store, and set damaged results aside")
    yield task("store", lambda: house.store(graph), "show what takes how much room")
    yield task(
        "repro", lambda *names: repro(graph, names),
        "build packages and media (all that were made, if none is named) again elsewhere, and compare",
        interactive=True, pos_arg="packages",
    )  # fmt: skip
    yield task(
        "new-package", lambda *words: packages.new_package(graph, _taken(graph, variables), *words),
        "write the first recipe of a package: NAME, and a URL, archive, git URL#TAG or Debian source file",
        interactive=True, pos_arg="words",
    )  # fmt: skip
    told = {"name": "dry", "long": "dry-run", "type": bool, "default": False, "help": "only say what would be written"}
    yield task(
        "track", lambda *words, dry: packages.track(graph, *words, dry=dry),
        "look for newer versions of all packages, or write the pins of one's newest into its recipe",
        interactive=True, params=[told], pos_arg="words",
    )  # fmt: skip
    yield task("tools:lock", lambda: house.lock(graph), "pin the tools anew, with apt's solver")
    for name, recipe in graph.recipes.items():
        if isinstance(recipe.package, Kconfig):
            configure = graph.stages(name)["configure"]
            yield task(
                f"{name}:menuconfig", lambda name=name: packages.menuconfig(graph, name),
                f"edit the configuration of {name}, and keep the difference in board/{graph.board.name}/{name}/",
                interactive=True, task_dep=[configure.id],
            )  # fmt: skip


def _cpio_tasks(graph: Graph, compress: str, task: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The workshop for an initramfs, whoever made it."""
    known: dict[str, tuple[Callable[..., None], str]] = {
        "list": (cpio.list_, "list every entry of an initramfs: FILE"),
        "unpack": (cpio.unpack, "unpack an initramfs, without root and without loss: FILE FOLDER [MOST]"),
        "repack": (partial(cpio.repack, compress=compress), "pack such a folder again: FOLDER FILE (COMPRESS=NAME)"),
        "append": (partial(cpio.append, compress=compress), "add files as one more segment: FILE WHAT... OUT"),
        "diff": (cpio.diff, "compare two initramfs as a kernel sees them: FILE FILE"),
    }
    for name, (run, doc) in known.items():
        yield task(f"cpio:{name}", lambda *words, run=run: run(graph, *words), doc, interactive=True, pos_arg="words")


def _initramfs_tasks(graph: Graph, task: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is asked of a finished initramfs. None needs the board's: they look into other files, too."""
    yield task(
        "initramfs:report", lambda *places: initramfs.report(graph, *places),
        "show what an initramfs is made of, and what it runs in which order: FILE, or that of the board",
        interactive=True, pos_arg="places",
    )  # fmt: skip
    yield task(
        "initramfs:verify", lambda *places: initramfs.verify_(graph, *places),
        "say what would keep an initramfs from its work: FILE, or that of the board",
        interactive=True, pos_arg="places",
    )  # fmt: skip
    yield task(
        "initramfs:compare", lambda: initramfs.compare(graph),
        "compare the profiles of the board's initramfs that were made: sizes by each compressor, times to unpack",
        interactive=True,
    )  # fmt: skip


def _report_tasks(graph: Graph, task: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What looks into finished images."""
    html = {"name": "html", "long": "html", "type": str, "default": None, "help": "where to write the page"}
    yield task(
        "size", lambda *places, html: size(graph, *places, html=html),
        "show what takes how much room in the image, or how that differs from another one, as a table and a page",
        params=[html], pos_arg="images", task_dep=[part.id for part in graph.image.deps],
    )  # fmt: skip
    trial = {
        "name": "compressors", "long": "compressors", "type": bool, "default": False,
        "help": "boot with the initramfs packed by each compressor, and compare",
    }  # fmt: skip
    yield task(
        "boot-report", lambda *places, compressors: boot_report(graph, *places, compressors=compressors),
        "tell where the time of boots went: roads, boards, folders or logs (without any, each road of the board)",
        interactive=True, params=[trial], pos_arg="places",
    )  # fmt: skip
    trees = {"name": "tools", "long": "tools", "type": bool, "default": False, "help": "draw the trees of tools, too"}
    kind = {"name": "format", "long": "format", "type": str, "default": "all", "help": "dot, svg, html or all"}
    yield task(
        "graph", lambda *names, **chosen: draw(graph, *names, **chosen),
        "draw what the image, or the named targets, are made from", params=[trees, kind], pos_arg="targets",
    )  # fmt: skip


def _port(variables: dict[str, str | None], name: str, default: int) -> int:
    """A port that the command line names. Raises KilnError where it is none."""
    text = variables[name] or str(default)
    if not text.isdecimal():
        raise KilnError(f"{text!r} is no port", where=name, hint=f"such as {name}={default}")
    return int(text)


def _needed(graph: Graph, road: str) -> list[str]:
    """The tasks without which the board cannot boot by that road."""
    found = [graph.image.id, *(name for name in ROADS[road].media if name not in graph.board.images)]
    own = own_program(graph.board.arch.name) and not ROADS[road].firmware
    return found if own else [*found, f"tools:{graph.vm}"]


def _taken(graph: Graph, variables: dict[str, str | None]) -> set[str]:
    """The words behind ``doit`` that mean something already."""
    tasks = (*_target_tasks(graph), *_verb_tasks(graph, variables))
    commands = {command.get_name() for command in doit_cmd.DoitMain.DOIT_CMDS}
    return {task["basename"].partition(":")[0] for task in tasks} | commands | {"dev"}

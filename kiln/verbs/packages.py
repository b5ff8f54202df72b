"""Work on packages: write the first recipe, follow versions, look into a failed build, edit a configuration."""

import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from kiln import kconfig, process
from kiln.errors import KilnError, nearest
from kiln.graph import Graph
from kiln.recipe import skeleton
from kiln.recipe import track as tracking
from kiln.recipe.package import Kconfig
from kiln.store import Work


def new_package(graph: Graph, taken: Collection[str], *words: str) -> None:
    """Write the first recipe of a package, with its pins filled in."""
    if len(words) not in (2, 3):
        raise KilnError("say what it is called and where it is", hint="doit new-package NAME URL-OR-FILE [VERSION]")
    name, address, *version = words
    if name in taken and name not in graph.recipes:
        hint = f"take another name, such as {name}-program"
        raise KilnError(f"`doit {name}` means something else already", where="NAME", hint=hint)
    with _scratch(graph, f"new-{name}") as scratch:
        lines = skeleton.create(name, address, "".join(version) or None, settings=graph.settings, scratch=scratch)
    print("\n".join(lines))


def track(graph: Graph, *words: str, dry: bool) -> None:
    """Look for newer versions of all packages, or write that of one, of a series such as 6.1, into its recipe."""
    names = [word for word in words if word != "--dry-run"]
    if len(names) > 2 or any(name.startswith("-") for name in names):
        raise KilnError("name one package", hint="doit track [--dry-run] [PACKAGE [SERIES]]")
    if names and names[0] not in graph.recipes:
        raise KilnError(f"there is no package {names[0]!r}", hint=nearest(names[0], graph.recipes))
    with _scratch(graph, "track") as scratch:
        lines = tracking.report(graph.recipes, graph.settings)
        if names:
            series, dry = "".join(names[1:]), dry or len(names) < len(words)
            lines = tracking.update(names[0], graph.recipes, graph.settings, scratch, series=series, dry=dry)
        for line in lines:
            print(line, flush=True)


@contextmanager
def _scratch(graph: Graph, name: str) -> Iterator[Path]:
    """An empty folder that the next run removes where this one is killed."""
    with graph.store.hold(Work(path=graph.store.path / "work" / name)) as work:
        work.clear()
        yield work.path


def shell(graph: Graph, *names: str) -> None:
    """A shell in the sandbox of a package: where its build failed, or fresh."""
    if len(names) != 1:
        raise KilnError("name one package", hint="doit shell PACKAGE")
    stages = graph.stages(names[0]).values()
    failed = [stage for stage in stages if stage.key() and stage.work().failed.exists()]
    stage = failed[0] if failed else list(stages)[-1]
    missing = [dep.id for dep in stage.deps if not dep.entry()]
    if missing:
        raise KilnError(f"it needs {', '.join(missing)} first", where=stage.id, hint=f"doit {' '.join(missing)}")
    with stage.store.hold(stage.work()) as work:
        phases = list(stage.phases)
        if failed:
            phase = work.failed.read_text()
            phases = phases[phases.index(phase) :]
            print(f"{stage.id} failed in phase {phase}")
        else:
            work.root.mkdir(parents=True, exist_ok=True)
            work.failed.write_text(phases[0])
            print(f"{stage.id} did not fail; this is its sandbox before the first phase")
        print(f"to run a phase: sh /inputs/run.sh {' '.join(phases)}")
        sys.stdout.flush()
        env = _terminal(graph) | {"PS1": f"{stage.id} $ "}
        try:
            stage.sandbox(work).with_env(env).run(["bash", "--norc", "-i"], interactive=True)
        except process.CommandFailed as error:
            if error.status < 0:
                raise


def _terminal(graph: Graph) -> dict[str, str]:
    """The user's kind of terminal, where the tools know it."""
    name = os.environ.get("TERM") or "linux"
    known = graph.tools["build"].built().root / "usr/lib/terminfo" / name[0] / name
    return {"TERM": name if known.exists() else "xterm"}


def menuconfig(graph: Graph, name: str) -> None:
    """A package's own menus on a scratch copy of its configuration; the difference becomes a fragment of the board."""
    package = graph.recipes[name].package
    assert isinstance(package, Kconfig)
    stage = graph.stages(name)["configure"]
    for dep in stage.deps:
        if dep.lazy:
            dep.build()
    before = stage.built().root / "config"
    with graph.store.hold(Work(path=graph.store.path / "work" / f"{name}-menuconfig")) as work:
        work.clear()
        config = work.folder("build") / ".config"
        shutil.copyfile(before, config)
        command = ["make", "-C", "/src", "O=/build", *package.flags(graph.board), "menuconfig"]
        stage.sandbox(work).with_env(_terminal(graph)).run(command, interactive=True)
        changed = kconfig.difference(kconfig.parse(before.read_text()), kconfig.parse(config.read_text()))
    file = graph.board.files / name / "menuconfig.config"
    if not changed:
        print("nothing changed")
        return
    asked = kconfig.parse(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("# Chosen in menuconfig.\n" + kconfig.render(asked | changed))
    place = file.relative_to(graph.settings.root)
    print(f"{len(changed)} symbols written to {place}; every build of the board uses them")

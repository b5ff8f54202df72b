"""What a user does with a board: boot it, test it, look into a failed build, edit its kernel's configuration."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from kiln import gc as collector
from kiln import kconfig, process
from kiln.errors import KilnError, nearest
from kiln.graph import KERNEL, Graph
from kiln.image.targets import kernel_image
from kiln.recipe import skeleton
from kiln.recipe import track as tracking
from kiln.recipe.package import Kconfig
from kiln.report import diff as comparison
from kiln.report import doctor as health
from kiln.report import usage
from kiln.report.why import why as explain
from kiln.store import Work
from kiln.target import Target
from kiln.vm.check import boot_and_check
from kiln.vm.diagnose import diagnose as find_out
from kiln.vm.diagnose import read, render, started
from kiln.vm.qemu import Boot, command, find_program, kvm_works, with_free_ports
from kiln.vm.setup import Setup


def qemu(graph: Graph, road: str, append: str, tap: str) -> None:
    """Boot an image as its user would, with the console on this terminal; Ctrl-A X ends the machine.

    ``tap`` is an interface of this machine that it is connected to, instead of QEMU's own network.
    """
    with tempfile.TemporaryDirectory() as scratch:
        boot = _boot(graph, road, append, Path(scratch))
        program, kvm = _program(graph)
        machine = with_free_ports(graph.board.machine)
        argv = command(machine, boot, program=program, kvm=kvm, interactive=True, tap=tap)
        print(shlex.join(argv), flush=True)
        for host, _, guest in (pair.partition(":") for pair in machine.forward if not tap):
            print(f"port {guest} of the guest is 127.0.0.1:{host} here", flush=True)
        graph.store.release()
        process.run(argv, interactive=True)


def test(graph: Graph, road: str) -> None:
    """Boot an image to the check inside it, and keep the serial log with the host's times."""
    log = graph.image.output / "boot" / f"{road}.log"
    with graph.jobserver.slot(), tempfile.TemporaryDirectory() as scratch:
        boot = _boot(graph, road, "", Path(scratch))
        program, kvm = _program(graph)
        found = boot_and_check(graph.board.machine, boot, program=program, kvm=kvm, log=log, setup=Setup.of(graph))
    place = os.path.relpath(log, graph.settings.root)
    if not found.ok:
        hint = f"{found.hint}\n  " if found.hint else ""
        raise KilnError(f"{road} did not boot: {found.reason}", hint=f"{hint}log      {place}")
    print(f"ok      {graph.board.name} by {road}: {found.reason}  {place}", flush=True)


def diagnose(graph: Graph, *places: str) -> None:
    """Say what went wrong in a boot: from its log, standard input (-), or the newest boot test of the board."""
    if len(places) > 1:
        raise KilnError("name one log", hint="doit diagnose LOG")
    try:
        text = sys.stdin.read() if places == ("-",) else _log(graph, *places).read_text(errors="replace")
    except OSError as error:
        raise KilnError(f"cannot read the log: {error.strerror}", where=error.filename) from error
    log = read(text)
    findings = find_out(log, Setup.of(graph))
    print("\n".join(render(log, findings)), flush=True)
    wrong = sum(finding.level != "note" for finding in findings)
    if wrong:
        raise KilnError(f"{wrong} thing{'s' * (wrong > 1)} went wrong in this boot")
    if not started(log) and any("Linux version" in line for _, line in log):
        raise KilnError("this boot stopped before its first program", hint="its last lines are above")


def _log(graph: Graph, *places: str) -> Path:
    logs = [Path(place) for place in places] or sorted(
        (graph.image.output / "boot").glob("*.log"), key=lambda path: path.stat().st_mtime
    )
    if not logs:
        raise KilnError(f"there is no log of a boot of {graph.board.name} yet", hint="doit test, or doit diagnose LOG")
    if not places:
        print(os.path.relpath(logs[-1], graph.settings.root), flush=True)
    return logs[-1]


def _program(graph: Graph) -> tuple[Sequence[str], bool]:
    entry = graph.tools[graph.vm].entry()
    program = find_program(graph.board.arch.name, entry.root if entry else None)
    accel = graph.settings.accel
    return program, accel == "kvm" if accel else kvm_works(graph.board.machine, program)


def _boot(graph: Graph, road: str, append: str, scratch: Path) -> Boot:
    files = graph.image.files()
    kernel = kernel_image(graph.result(KERNEL).built())
    cmdline = " ".join(word for word in (graph.board.cmdline, append) if word)
    if road == "cpio":
        return Boot(kernel=kernel, initrd=files["rootfs.cpio.zst"], cmdline=cmdline)
    if road == "ext4":
        return Boot(kernel=kernel, drive=files["rootfs.ext4"], cmdline=f"{cmdline} root=/dev/vda rootwait")
    disk = graph.image.disk
    assert disk
    return Boot(drive=disk.copy_with(append, scratch) if append else files["disk.img"])


def doctor(graph: Graph) -> None:
    findings = list(health.examine(graph.settings, graph.tools, graph.board.arch.name))
    for finding in findings:
        print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    if problems:
        raise KilnError(f"{problems} of these keep kiln from working")


def lock(graph: Graph) -> None:
    changes = graph.tools.renew()
    print("\n".join(changes) or "nothing changed")


def why(graph: Graph, *names: str) -> None:
    for name in names or (graph.image.id,):
        print("\n".join(explain(graph.named(name)[-1], graph.needed)))


def diff(graph: Graph, *places: str) -> None:
    if len(places) != 2:
        raise KilnError("name two images", hint="doit diff IMAGE_A IMAGE_B")
    before, after = (comparison.read(place, graph.settings) for place in places)
    print("\n".join(comparison.render(before, after)))


def gc(graph: Graph, *, dry: bool) -> None:
    if dry:
        print("\n".join(collector.render(collector.sort_out(graph.settings), dry=True)))
        return
    with graph.store.alone(), graph.store.local.alone():
        items = collector.sort_out(graph.settings)
        print("\n".join(collector.render(items, dry=False)), flush=True)
        collector.free(items)


def verify(graph: Graph) -> None:
    """Look at every file of the stores. What is damaged is set aside, so that the next run makes it anew."""
    damaged = count = 0
    for store in (graph.store, graph.store.local):
        entries = list(store.entries())
        for entry in tqdm(entries, unit="results", leave=False, disable=None):
            damage = entry.damage()
            if not entry.path.exists():  # freed meanwhile
                continue
            count += 1
            damaged += bool(damage)
            for line in damage:
                print(f"damaged  {entry.path.name}  {line}", flush=True)
            if damage:
                entry.condemn()
    if damaged:
        raise KilnError(
            f"{damaged} of {count} results were damaged", hint="they are set aside: the next run makes them anew"
        )
    print(f"{count} results, all as they were built")


def store(graph: Graph) -> None:
    for place in (graph.store.path, graph.store.local.path):
        if place.exists():
            print("\n".join(usage.render(usage.measure(place))))


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


def clean(target: Target) -> None:
    if target.clean():
        print(f"removed {target.id}")


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

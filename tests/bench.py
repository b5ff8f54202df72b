"""Figures of this checkout, for `make bench`: whole commands, each timed as a user would wait for it.

First those of the board; then projects of many packages, beside ninja and make on the same graph; and with ``--cold``,
builds from nothing, which take minutes, the network for one of them, and several GB.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kiln import board as boards
from kiln.graph import Graph
from kiln.sandbox import Mount
from kiln.settings import Settings
from kiln.store import Work
from kiln.target import closure
from kiln.trees import remove
from tests import synthetic
from tests.guest import Guest
from tests.project import Project
from tests.synthetic import Edit

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "output/qemu-x86_64"
RUNS = 5
SCALE_RUNS = 3
SCALE = (1_000, 10_000)
# Up to so many packages, a change that all users of a package see is measured too: it starts a sandbox for each.
_WIDE = 1_000
_SYMBOL = "CONFIG_LOG_BUF_SHIFT=16\n"


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str] = os.environ) -> tuple[float, int]:
    """Seconds that a command took, and the most memory (bytes) that it or a child of it had."""
    start = time.monotonic()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return seconds, usage.ru_maxrss * 1024


def doit(*words: str, root: Path = ROOT, env: Mapping[str, str] = {}) -> float:
    """Seconds of a run of doit."""
    return run([sys.executable, "-m", "doit", *words], root, dict(os.environ) | dict(env))[0]


def median(measure: Callable[[], float]) -> str:
    times = sorted(measure() for _ in range(RUNS))
    return f"{statistics.median(times):6.2f} s   ({times[0]:.2f} to {times[-1]:.2f}, {RUNS} runs)"


def show(what: str, value: str) -> None:
    print(f"{what:<44} {value}", flush=True)


def board() -> None:
    doit("image")
    show("image, nothing to do", median(lambda: doit("image")))
    show("an overlay file edited, to a new disk", median(overlay_edit))
    show("the same, to every medium", median(partial(overlay_edit, "media")))
    show("init's script edited, to a new cpio", median(init_edit))
    show("busybox's result deleted, to the image again", median(deleted))
    doit("image")
    show("kernel + cpio under emulation, to the marker", median(boot))
    show("the same, until ssh answers", median(ssh))
    show("qemu-microvm under emulation, to /init", median(microvm))
    with scratch() as folder:
        repack(folder)
    for name in ("bzImage", "rootfs.cpio.zst"):
        show(name, f"{(OUTPUT / name).stat().st_size / 1e6:6.2f} MB")
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "kiln").rglob("*.py"))
    show("the engine", f"{lines:6d} lines")


def overlay_edit(task: str = "disk") -> float:
    """From a new file in the board's overlay to a new disk, or to what else ``task`` makes."""
    note = ROOT / "board/qemu-x86_64/overlay/bench"
    made = [folder for folder in (note.parent, note.parent.parent) if not folder.exists()]
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{time.time()}\n")
    try:
        return doit(task)
    finally:
        note.unlink()
        for folder in made:
            folder.rmdir()


def init_edit() -> float:
    """From an edit of the init script to a bootable cpio."""
    file = ROOT / "packages/init/files/init"
    text = file.read_text()
    file.write_text(f"{text}# {time.time()}\n")
    try:
        return doit("cpio")
    finally:
        file.write_text(text)


def deleted() -> float:
    """From a package without its result to all images; the compilers' cache is warm, as it is for a user."""
    doit("clean", "busybox:build")
    return doit("image")


def boot() -> float:
    doit("test:cpio", env={"KILN_ACCEL": "tcg"})
    lines = (OUTPUT / "boot/cpio.log").read_text().splitlines()
    marker = next(line for line in lines if "KILN-CHECK" in line and line.endswith(" ok"))
    return float(marker[1:].split("]")[0])


def ssh() -> float:
    """From QEMU's start to the first word of sshd, which made its host keys meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        guest = Guest(real_graph(ROOT, {}), Path(folder, "log"))
        try:
            return guest.answers()
        finally:
            guest.off()


def repack(folder: Path) -> None:
    """Pack the unpacked root file system again, beside GNU cpio that is piped into the same compressor."""
    tools = real_graph(ROOT, {}).tools
    tools["checkers"].build()
    doit("cpio:unpack", str(OUTPUT / "rootfs.cpio.zst"), str(folder / "tree"))
    others = tools.sandbox("checkers").with_mounts([Mount(source=folder, target="/work", writable=True)])
    pipe = "cd tree/1 && find . | sort | cpio -o -H newc --quiet | zstd -10 --long=24 -T2 -q -f -o /work/theirs"
    words = others.with_env({}, cwd="/work").argv(["bash", "-o", "pipefail", "-c", pipe])
    ours = [doit("cpio:repack", str(folder / "tree"), str(folder / "ours")) for _ in range(RUNS)]
    theirs = [run(words, ROOT, {})[0] for _ in range(RUNS)]
    ratio = statistics.median(ours) / statistics.median(theirs)
    value = f"{statistics.median(ours):6.2f} s   ({ratio:.2f} of cpio | zstd, {statistics.median(theirs):.2f} s)"
    show("cpio:repack of the root file system", value)


def microvm() -> float:
    doit("test:cpio", "BOARD=qemu-microvm", env={"KILN_ACCEL": "tcg"})
    lines = (ROOT / "output/qemu-microvm/boot/cpio.log").read_text().splitlines()
    first = next(line for line in lines if "Run /init" in line)
    return float(first[1:].split("]")[0])


def scale(count: int, folder: Path) -> None:
    """A project of ``count`` packages, and what ninja and make need for the same graph."""
    libs, tools = synthetic.graph(count), real_graph(ROOT, {}).tools
    project = Project(folder / "project", ROOT)
    link(project.store, [tools[name].built().path for name in ("sandbox", "build", "image")])
    synthetic.write(project, libs)
    start = time.monotonic()
    synthetic.prime(project)
    show(
        f"{count:,} packages, primed in {time.monotonic() - start:.0f} s",
        "   kiln      ninja       make   kiln to ninja, to make",
    )
    synthetic.write_peers(folder / "ninja", libs)
    # On the machine itself, as kiln runs there; a sandbox would only slow them down.
    library = tools["build"].built().root / "usr/lib/x86_64-linux-gnu"
    loader = [f"{library}/ld-linux-x86-64.so.2", "--library-path", f"{library}"]
    ninja, make = ([*loader, f"{library.parent.parent}/bin/{name}"] for name in ("ninja", "make"))
    make.append(f"-j{os.cpu_count()}")
    run(ninja, folder / "ninja")
    shutil.copytree(folder / "ninja", folder / "make")
    run(make, folder / "make")

    def kiln(*words: str) -> tuple[float, int]:
        return run(project.command(*words), project.root, project.env())

    def row(what: str, edit: Callable[[str], Edit] | None = None, *, runs: int = SCALE_RUNS) -> None:
        rounds = []
        for _ in range(runs):
            if edit:
                change = edit(str(time.time_ns()))
                synthetic.apply(project, libs, change)
                for name in ("ninja", "make"):
                    synthetic.apply_peer(folder / name, change)
            rounds.append((kiln("image"), run(ninja, folder / "ninja"), run(make, folder / "make")))
        ours, *peers = (statistics.median(seconds for seconds, _ in found) for found in zip(*rounds, strict=True))
        columns = " ".join(f"{seconds:8.2f} s" for seconds in (ours, *peers))
        ratios = "  ".join(f"{ours / seconds:.1f} : 1" for seconds in peers)
        most = max(peak for (_, peak), *_ in rounds) / 1e6
        show(f"  {what}", f"{columns}   {ratios}, with {most:.0f} MB")

    leaf = next(name for name in reversed(libs) if name.startswith("p") and not synthetic.users(libs, name))
    root = max((name for name in libs if not libs[name]), key=lambda name: len(synthetic.users(libs, name)))
    users = len(synthetic.users(libs, root))
    load = statistics.median(kiln("list", "-q")[0] for _ in range(SCALE_RUNS))
    show("  load and plan", f"{load:8.2f} s")
    row("nothing to do")
    row("a leaf changed, to new images", lambda text: Edit(package=leaf, text=text))
    row("a root changed, to the same content", lambda note: Edit(package=root, note=note))
    if count <= _WIDE:
        row(f"a root changed, and {users} that see it", lambda text: Edit(package=root, text=text), runs=1)


def real_graph(root: Path, env: Mapping[str, str]) -> Graph:
    return Graph.load(Settings.read(root, dict(os.environ) | dict(env)), OUTPUT.name)


def link(store: Path, entries: Iterable[Path]) -> None:
    store.mkdir(parents=True)
    for entry in entries:
        (store / entry.name).symlink_to(entry)


def borrowed(folder: Path) -> tuple[Path, dict[str, str]]:
    """A copy of this project, and the environment in which its store has our tools and sources, but no result."""
    root, graph = folder / "copy", real_graph(ROOT, {})
    for name in ("packages", "configs", "board"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dodo.py", root)
    means = [target.built().path for target in graph.targets if target.lazy and target.entry()]
    link(folder / "store", means)
    return root, {
        "KILN_STORE": os.fspath(folder / "store"),
        "KILN_DOWNLOADS": os.fspath(graph.settings.downloads),
        "PYTHONPATH": os.fspath(ROOT),
    }


def changed_symbol(folder: Path, package: str, fragment: str) -> None:
    """One changed symbol of a configuration, with the compilers' cache that the build from nothing left.

    Then the way back to the first, in a build folder that is kept.
    """
    root, env = borrowed(folder)
    doit(f"{package}:configure", root=root, env=env)
    first = doit(f"{package}:build", root=root, env=env)
    file = root / "board" / OUTPUT.name / package / "bench.config"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(fragment)
    again = doit(f"{package}:build", root=root, env=env)
    show(f"{package}, from nothing", f"{first:6.1f} s")
    show("  one symbol changed", f"{again:6.1f} s, 1 : {first / again:.1f}")
    keep = env | {"KILN_KEEP_BUILD": package}
    doit(f"{package}:build", root=root, env=keep)
    file.unlink()
    doit(f"{package}:configure", root=root, env=keep)
    kept = doit(f"{package}:build", root=root, env=keep)
    show("  one symbol changed, in a kept build folder", f"{kept:6.1f} s, 1 : {first / kept:.1f}")


def make_alone(folder: Path, package: str) -> None:
    """What kiln adds to the make that it runs: the same commands in the same sandbox, without kiln or a cache."""
    root, env = borrowed(folder)
    env["KILN_CCACHE"] = "0"
    doit(f"{package}:configure", root=root, env=env)
    graph = real_graph(root, env)
    stage, work = graph.stages(package)["build"], Work(path=folder / "work")
    work.root.mkdir(parents=True)
    sandbox = stage.sandbox(work).with_env({"MAKEFLAGS": f"-j{graph.settings.jobs}"})
    start = time.monotonic()
    sandbox.run(["sh", "/inputs/run.sh", *stage.phases], log=work.log)
    alone = time.monotonic() - start
    ours = doit(f"{package}:build", root=root, env=env)
    show(f"{package}, by make alone", f"{alone:6.1f} s")
    show("  by kiln, without its cache", f"{ours:6.1f} s, {ours / alone:.2f} : 1")


def cold(folder: Path) -> None:
    """Everything from nothing: time, how busy the processors are while building, and the most room taken."""
    env = {"KILN_STORE": str(folder / "store"), "KILN_DOWNLOADS": str(folder / "downloads")}
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(5):
            used = subprocess.run(["du", "-sk", folder], capture_output=True, text=True).stdout.split()
            peak = max(peak, int(used[0]) if used else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fetch = doit(*(target.id for target in closure(real_graph(ROOT, {}).image) if target.lazy), env=env)
        busy, idle = processors()
        build = doit("image", env=env)
        busy, idle = (after - before for after, before in zip(processors(), (busy, idle), strict=True))
        again = doit("image", env=env)
        others = {name: doit("image", f"BOARD={name}", env=env) for name in boards.names(ROOT) if name != OUTPUT.name}
    finally:
        stop.set()
        watcher.join()
    show("image, from nothing", f"{fetch + build:6.0f} s, {fetch:.0f} s of it to fetch and unpack")
    show("  processors busy while it builds", f"{100 * busy / (busy + idle):6.0f} %, whoever keeps them so")
    show("  most room taken", f"{peak / 1e6:6.1f} GB")
    show("  a second run, against the first", f"1 : {(fetch + build) / again:.0f}")
    for name, seconds in others.items():
        show(f"  then {name}", f"{seconds:6.0f} s")


def processors() -> tuple[int, int]:
    """Ticks that all processors were busy and idle: a sandbox's own do not reach its parent's account."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one measurement, on the disk that a user's builds are on."""
    folder = Path(tempfile.mkdtemp(dir=ROOT / "output"))
    try:
        yield folder
    finally:
        remove(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="build from nothing too")
    parser.add_argument(
        "--scale", type=int, nargs="*", default=SCALE, metavar="N", help="how many packages (1000 10000; none: no such)"
    )
    arguments = parser.parse_args()
    board()
    measures: list[Callable[[Path], None]] = [partial(scale, count) for count in arguments.scale]
    if arguments.cold:
        measures += [partial(make_alone, package="busybox"), cold]
        measures += [partial(changed_symbol, package="linux", fragment=_SYMBOL)]
    for measure in measures:
        with scratch() as folder:
            measure(folder)


if __name__ == "__main__":
    main()

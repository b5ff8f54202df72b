"""Whether results are reproducible: builds them again where everything that must not count is different, and compares.

The other place has another path, user, host name, number of processors, locale, time zone, umask and clock.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kiln import process
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.sandbox import Mount
from kiln.settings import Settings
from kiln.store import Entry, Work
from kiln.target import Target, closure

# libfaketime will not do: it gives files whose time is set to now another time than those that are written now, and
# so make takes finished files for old ones. This one moves what programs ask for, and leaves files to the kernel.
_CLOCK = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = syscall(SYS_clock_gettime, clock, now);
    if (!status && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        now->tv_sec += 500 * 86400 + 12345;
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    *now = (struct timeval){.tv_sec = time.tv_sec, .tv_usec = time.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *now)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now)
        *now = time.tv_sec;
    return time.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}
"""

# What the other kiln starts as: on one processor less, where that does not halve them.
_START = """
import os, runpy
os.umask(0o077)
cpus = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cpus[1:] if len(cpus) > 2 else cpus)
runpy.run_module("doit", run_name="__main__", alter_sys=True)
"""
_USER = ("--unshare-user", "--uid", "4242", "--gid", "4243", "--unshare-uts", "--hostname", "elsewhere")
_PROJECT = ("dodo.py", "packages", "board", "configs")
_CHUNK = 1 << 20


def repro(graph: Graph, names: Sequence[str]) -> None:
    """Build packages and images again elsewhere, and compare: by name, or all that the board's image is made of.

    Without names, those other media that were made are compared, too.
    Raises KilnError where something differs or could not be built; what was built elsewhere is kept then.
    """
    wanted: list[Target] = [target for name in names for target in graph.named(name)]
    if not names:
        wanted = [graph.image, *(medium for medium in graph.media.values() if medium.entry())]
    targets = [target for target in closure(*wanted) if not target.lazy]
    missing = [target.id for target in targets if not target.entry()]
    if missing:
        hint = f"doit {' '.join(target.id for target in wanted)}"
        raise KilnError(f"nothing to compare with: {missing[0]} was not built yet", hint=hint)
    asked = [target for target in targets if target in wanted] if names else targets
    graph.store.use()
    with graph.store.hold(Work(path=graph.store.path / "work" / f"repro-{graph.board.name}")) as work:
        work.clear()
        project = work.path / "änother place" / "with a longer path"
        try:
            _prepare(graph, asked, project)
            _build(graph, asked, project, _clock(graph, work))
            differing = _compare(asked, Graph.load(Settings.read(project, {}), graph.board.name))
            if differing:
                raise KilnError(f"{differing} of {len(asked)} results differ", hint=_kept(project))
        except KilnError:
            work.failed.touch()  # keeps the folder
            raise
    print(f"{len(asked)} of {len(asked)} results are the same")


def _prepare(graph: Graph, asked: Sequence[Target], project: Path) -> None:
    """Copy the project, with a store that lends all that is not asked for."""
    store = project / "output/store"
    store.mkdir(parents=True)
    for name in _PROJECT:
        source = graph.settings.root / name
        if source.is_dir():
            shutil.copytree(source, project / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, project / name)
    for target in closure(*asked):
        entry = None if target in asked else target.entry()
        if entry:
            (store / entry.path.name).symlink_to(entry.path)


def _clock(graph: Graph, work: Work) -> Path:
    """A folder with the library that moves the clock, compiled by the tools themselves."""
    for name in ("sandbox", "build"):
        graph.tools[name].build()
    folder = work.folder("clock")
    sandbox = graph.tools.sandbox("build").with_mounts([Mount(source=folder, target="/dest", writable=True)])
    words = ["/usr/bin/gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", "/dest/clock.so"]
    sandbox.run(words, input=_CLOCK.encode())
    return folder


def _build(graph: Graph, asked: Sequence[Target], project: Path, clock: Path) -> None:
    settings, engine = graph.settings, Path(__file__).parent.parent
    paths = [os.fspath(engine), os.environ.get("PYTHONPATH", "")]
    env = {name: os.environ[name] for name in ("PATH", "TERM") if name in os.environ} | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HOME": os.fspath(project),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "tr_TR.UTF-8",
        "KILN_DOWNLOADS": os.fspath(settings.downloads),
        "KILN_MIRROR": settings.mirror or "",
        "KILN_DEBIAN": settings.archive or "",
        "KILN_JOBS": str(settings.jobs + 1 if settings.jobs < 1024 else 1),
        "KILN_CCACHE": "0",
        "KILN_CLOCK": os.fspath(clock),
    }
    launcher = graph.tools.launcher()
    outer = [*launcher, "--die-with-parent", "--unshare-pid", *_USER, "--dev-bind", "/", "/", "--proc", "/proc"]
    try:
        process.run([*outer, "--", *launcher, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--", "true"])
    except process.CommandFailed:
        print("this machine allows no name spaces in name spaces: the user and the host name stay as they are")
        outer = [*launcher, "--die-with-parent", "--dev-bind", "/", "/"]
    words = [sys.executable, "-c", _START, *(target.id for target in asked), f"BOARD={graph.board.name}"]
    sys.stdout.flush()
    try:
        process.run([*outer, "--chdir", os.fspath(project), "--", *words], env=env, interactive=True)
    except process.CommandFailed as error:
        raise KilnError("it could not be built elsewhere", hint=_kept(project)) from error


def _compare(asked: Sequence[Target], elsewhere: Graph) -> int:
    """Print how each result compares, and the details of the first that differs; returns how many do."""
    others = {target.id: target for target in elsewhere.targets}
    pairs = [(target.id, target.built(), others[target.id].built()) for target in asked]
    differing = []
    for name, here, there in pairs:
        path = next(_paths(here, there), None)
        if path is not None:
            differing.append((name, here, there, path))
        print(f"{'DIFFERS' if path else 'same':<7}  {name:<22}  {path or here.digest[:12]}")
    if differing:
        name, here, there, path = differing[0]
        print(f"\n{name}: {path}: {_difference(here, there, path)}", flush=True)
        _diffoscope(here.root / path, there.root / path)
    return len(differing)


def _paths(here: Entry, there: Entry) -> Iterator[str]:
    """The paths that differ between two results, in order."""
    one, other = _files(here), _files(there)
    yield from (path for path in sorted(one | other) if one.get(path) != other.get(path))


def _files(entry: Entry) -> dict[str, str]:
    files: dict[str, str] = json.loads((entry.path / "files.json").read_bytes())
    return files


def _difference(here: Entry, there: Entry, path: str) -> str:
    one, other = _files(here).get(path), _files(there).get(path)
    if one is None or other is None:
        return f"only {'elsewhere' if one is None else 'here'}"
    if one.removesuffix(" x") == other.removesuffix(" x"):
        return f"{'' if one.endswith(' x') else 'not '}executable here"
    if any(word == "dir" or word.startswith("->") for word in (one, other)):
        return f"{_kind(one)} here, {_kind(other)} elsewhere"
    sizes = [os.path.getsize(entry.root / path) for entry in (here, there)]
    offset = _offset(here.root / path, there.root / path)
    return f"differs from offset {offset} (0x{offset:x}) on; {sizes[0]} bytes here, {sizes[1]} elsewhere"


def _kind(word: str) -> str:
    return "a folder" if word == "dir" else f"a link to {word[3:]}" if word.startswith("->") else "a file"


def _offset(here: Path, there: Path) -> int:
    """Where two files begin to differ, in bytes."""
    offset = 0
    with here.open("rb") as one, there.open("rb") as other:
        while (a := one.read(_CHUNK)) == (b := other.read(_CHUNK)) and a:
            offset += len(a)
    return offset + next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _diffoscope(here: Path, there: Path) -> None:
    program = shutil.which("diffoscope")
    if not program:
        print("diffoscope, where it is installed, is asked for more")
    elif here.exists() and there.exists():
        try:
            process.run([program, here, there], interactive=True)
        except process.CommandFailed as error:
            if error.status != 1:  # they differ, as we know
                raise


def _kept(project: Path) -> str:
    return f"the other project, with its output/store, stays until the next `doit repro` or `doit gc`: {project}"

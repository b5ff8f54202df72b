"""Builds that are disturbed: packages to build, ways to disturb them, and what must be true afterwards."""

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiln.digest import of_tree
from tests.project import Project
from tests.servers import Repository, tarball_of

_SEED = {"seed.h": "#define SEED 1\n", "run.sh": "#!/bin/sh\n"}
_PATCH = "--- a/seed.h\n+++ b/seed.h\n@@ -1 +1 @@\n-#define SEED 1\n+#define SEED 2\n"
_GRAFT = {"graft.txt": "graft\n", "sub/more.txt": "more\n"}


def phases(**scripts: str) -> str:
    """The phases of a recipe, each of one shell script that takes its time."""
    steps = {name: f"step.run('sh', '-euc', {'sleep 0.05; ' + script!r})" for name, script in scripts.items()}
    return "".join(f"@package.{name}\ndef {name}(step, board):\n    {step}\n\n" for name, step in steps.items())


def plant(project: Project, folder: Path) -> dict[str, str]:
    """Write eight packages that need each other in every way, and their sources; returns the settings to build them.

    `app` is made with `lib`, that with `seed` (an archive of the mirror, and a patch), and with `tool`; `graft` is from
    a git repository; `data` and `notes` stand alone.
    """
    ball = tarball_of(_SEED, top="seed-1")
    (folder / "mirror").mkdir(parents=True)
    (folder / "mirror/seed-1.tar.gz").write_bytes(ball)
    sha256 = hashlib.sha256(ball).hexdigest()
    repository = Repository(folder / "graft.git")
    commit = repository.commit(_GRAFT, tag="1")
    for name, text in _GRAFT.items():
        place = folder / "graft" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    content = of_tree(folder / "graft").hash
    git = f'Git("{repository.url}", tag="1", commit="{commit}", content="sha256:{content}")'
    project.file("packages/seed/patches/1.patch", _PATCH)
    archive = f'Archive("http://127.0.0.1:9/seed-1.tar.gz", sha256="{sha256}")'
    build, install = "cp /src/seed.h .", "mkdir /dest/include; cp seed.h /dest/include"
    project.recipe("seed", f"source={archive}", phases=phases(build=build, install=install))
    configure, build = "cp /sysroot/include/seed.h config.h", "seq 20000 > lib.a"
    install = "mkdir /dest/lib; cat config.h lib.a > /dest/lib/lib.a"
    project.recipe("lib", "libs=('seed',)", phases=phases(configure=configure, build=build, install=install))
    install = "mkdir /dest/bin; echo sha256sum > /dest/bin/sum; chmod 755 /dest/bin/sum"
    project.recipe("tool", phases=phases(install=install))
    project.recipe("graft", f"source={git}", phases=phases(install="mkdir /dest/etc; cp -r /src/. /dest/etc"))
    configure, build = "sh /tools/bin/sum < /sysroot/lib/lib.a > sum", "seq 9 > out"
    install = "mkdir -p /dest/usr/bin; cat sum out /sysroot/include/seed.h > /dest/usr/bin/app"
    needs = "libs=('lib',), tools=('tool',), runtime=('data', 'graft')"
    project.recipe("app", needs, phases=phases(configure=configure, build=build, install=install))
    project.recipe("data", phases=phases(install="mkdir -p /dest/usr/share; seq 30000 > /dest/usr/share/data"))
    project.recipe("notes", phases=phases(install="mkdir -p /dest/usr/doc; echo notes > /dest/usr/doc/notes"))
    project.recipe("linux", phases=phases(install="mkdir /dest/boot; seq 5000 > /dest/boot/bzImage"))
    project.file("board/common/extlinux.conf", "DEFAULT linux\nLABEL linux\nLINUX @KERNEL@\nAPPEND @CMDLINE@\n")
    project.board(packages=["app", "notes"])
    return {"KILN_MIRROR": os.fspath(folder / "mirror")}


def built(run: subprocess.CompletedProcess[str]) -> list[str]:
    """What a run made, by the names of its targets."""
    assert run.returncode == 0, run.stdout + run.stderr
    return [line.split()[1] for line in run.stdout.splitlines() if line.startswith("built ")]


def told(run: subprocess.CompletedProcess[str]) -> str:
    """What a run that failed said, which is no traceback."""
    out = run.stdout + run.stderr
    assert run.returncode not in (0, None), out
    assert "Traceback" not in out, out
    return out


def entries(store: Path) -> list[Path]:
    """The folders of all results but the tools, which tests share."""
    return sorted(path for path in store.glob("*-*-*") if (path / "root").is_dir() and not path.is_symlink())


def results(store: Path) -> dict[str, str]:
    """The digest of each result by its folder's name."""
    return {path.name: of_tree(path / "root").hash for path in entries(store)}


def sums(project: Project) -> dict[str, str]:
    """The real sums of the images that the output folder shows, after a look at those that it promises."""
    folder = project.root / "output/test"
    lines = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    promised = {name: sha256 for sha256, name in lines}
    real = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in promised}
    assert real == promised
    return real


def link_tools(project: Project, store: Path) -> Path:
    """A further store with the tools trees of the project's own."""
    store.mkdir(parents=True, exist_ok=True)
    for path in project.store.iterdir():
        if path.is_symlink():
            (store / path.name).symlink_to(path.readlink())
    return store


def leftovers(project: Project, store: Path) -> list[str]:
    """What is in the folders of a project that no finished build leaves there."""
    found = [*store.glob("work/*"), *(project.root / "output").rglob("*.part"), *store.glob("*.tmp")]
    found += [path for path in (project.root / "output").glob("*/.*") if path.name != ".lock"]
    known = {"format", ".lock", "work", "ccache", "roots"}
    found += [path for path in store.iterdir() if path.name not in known and not (path / "stamp.json").is_file()]
    return [os.fspath(path) for path in found]


def alive(place: Path) -> list[str]:
    """The processes that have to do with a folder: by their words, their environment, their cwd, or their mounts."""
    found, mark = [], os.fsencode(place)
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes()
            seen = (words, (folder / "environ").read_bytes(), (folder / "mountinfo").read_bytes(),
                    os.readlink(os.fsencode(folder / "cwd")))  # fmt: skip
        except OSError:  # ended while we looked, or is not ours
            continue
        if words and any(mark in text for text in seen):
            found.append(f"{folder.name} {words.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
    return found


@contextmanager
def start(project: Project, *words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """doit in a session of its own, which is over when this is left."""
    with subprocess.Popen(
        project.command(*words), cwd=project.root, env=project.env(env), start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def kill(process: subprocess.Popen[str], *, group: bool = False) -> str:
    """End doit with no chance to clean up, with or without what is in its session; returns what it said."""
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    return process.communicate(timeout=30)[0]


def eventually(condition: Callable[[], object], what: str, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass(frozen=True, kw_only=True)
class Mounted:
    """A mount at ``place`` that only the processes started here see, made without root."""

    place: Path
    holder: int

    def run(self, words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--user", "--mount", "--preserve-credentials", f"--target={self.holder}"]
        folder = options.pop("cwd", None)
        inside = [*enter, *([f"--wdns={folder}"] if folder else []), "--", *words]
        return subprocess.run(inside, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload, no-any-return]

    def doit(
        self, project: Project, *words: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run(project.command(*words), cwd=project.root, env=project.env(env))

    def seen(self, path: Path | None = None) -> Path:
        """A path as it is seen there, reachable from here."""
        return Path(f"/proc/{self.holder}/root{path or self.place}")

    def remount(self, options: str) -> None:
        done = self.run(["mount", "-o", f"remount,{options}", os.fspath(self.place)])
        assert done.returncode == 0, done.stderr

    def free(self) -> int:
        """Bytes that fit."""
        info = os.statvfs(self.seen())
        return info.f_bavail * info.f_bsize


@contextmanager
def mounted(place: Path, *mount: str) -> Iterator[Mounted]:
    """Mount something at a folder, by the words of ``mount``; skips where user name spaces are forbidden."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("user name spaces are forbidden here")
    words = [*unshare, "sh", "-euc", '"$@" >&2; echo ready; cat', "sh", "mount", *mount, os.fspath(place)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        yield Mounted(place=place, holder=holder.pid)
        holder.stdin.close()

"""Stages: the parts of a package that have a result of their own, built inside the sandbox from recorded steps."""

import os
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kiln import digest, process
from kiln.errors import KilnError, say
from kiln.jobs import Jobserver
from kiln.recipe.package import Package
from kiln.recipe.step import Step, file_digests, shell
from kiln.sandbox import Mount, Sandbox
from kiln.source.tree import Patched, SourceTree
from kiln.store import Entry, Store, Work
from kiln.target import UNKNOWN, Target
from kiln.tools import Tools
from kiln.trees import EPOCH, merge, seal

# Where a kernel's build sees the initramfs that goes into it.
INITRAMFS = "/work"

_ENV = {"SOURCE_DATE_EPOCH": str(EPOCH)}
_SHOWN_LINES = 12
_SHOWN_WIDTH = 160
# What a shell says of a program that a SIGKILL ended.
_KILLED = 128 + signal.SIGKILL


class BuildFailed(KilnError):
    """A command of a phase failed; carries what the user needs to go on."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all stages are built with; ``logs`` is where a user looks for them, ``ccache`` a size limit."""

    store: Store
    tools: Tools
    jobserver: Jobserver
    logs: Path
    ccache: str | None


class Stage(Target):
    """One stage of a package for a board: recorded phases, and what they may see.

    Libraries and the stage before count by their content, tools by their key, so an equal result rebuilds nothing.
    ``libs`` are those that it names; it sees what they are compiled against as well. A ``tree`` is a user's working
    tree that stands in for the source; ``kept`` is a build folder that the next build goes on in. An ``initramfs`` goes
    into a kernel.
    """

    def __init__(
        self,
        package: Package,
        version: str,
        stage: str,
        workshop: Workshop,
        *,
        steps: Mapping[str, Step],
        source: SourceTree | Patched | None,
        before: "Stage | None",
        used: Sequence["Stage"],
        libs: Sequence["Stage"],
        tree: Path | None = None,
        kept: Path | None = None,
        initramfs: Target | None = None,
    ) -> None:
        tools = workshop.tools
        deps = (tools["sandbox"], tools["build"], *filter(None, (source, before, initramfs)), *used, *libs)
        super().__init__(workshop.store, deps, local=bool(tree or kept))
        self.package = package.name
        self.id = f"{package.name}:{stage}"
        self.name = package.name if stage == "build" else f"{package.name}-{stage}"
        self.version = version
        self.doc = f"{package.summary}, {version}"
        self.phases = {phase: step.actions for phase, step in steps.items()}
        self.source, self.before, self.used, self.libs = source, before, tuple(used), tuple(libs)
        self.tree, self.kept, self.initramfs = tree, kept, initramfs
        self._files = {name: path for step in steps.values() for name, path in step.files.items()}
        self._workshop = workshop
        self._interface = UNKNOWN

    def inputs(self) -> dict[str, Any]:
        if self.tree or not self.source:
            return self._inputs(None)
        return self._inputs(next(iter(self.source.contents()), UNKNOWN))

    def look(self) -> Entry | None:
        self._looked = True
        if self.tree:  # whether anything in it changed is for make to find out, once in each run
            return self._entry
        if self._entry is None and self.source and not self.source.entry():
            # The source is not here, and need not be: any of its pinned contents may have been built already.
            for content in self.source.contents():
                self._entry = self._entry or self._find(self._inputs(content))
            return self._entry
        return super().look()

    def interface(self) -> str:
        """What users of this library see, as a digest: its content, and that of the libraries below it."""
        if self._interface is UNKNOWN and (entry := self.entry()):
            below = {lib.package: lib.interface() for lib in self.libs}
            self._interface = digest.of_value([entry.digest, below]) if below else entry.digest
        return self._interface

    def _inputs(self, source: str | None) -> dict[str, Any]:
        by_key = {tool.package: tool.key() or UNKNOWN for tool in self.used}
        inputs = {
            "name": self.name,
            "version": self.version,
            "phases": self.phases,
            "files": self._digests,
            "env": _ENV,
            "source": source,
            "config": self.before.content() if self.before else None,
            "tools": {"tree": self._workshop.tools["build"].key()} | by_key,
            "libs": {lib.package: lib.interface() for lib in self.libs},
        }
        if self.initramfs:
            inputs["initramfs"] = self.initramfs.content()
        return inputs | {"local": self.origin} if self.origin else inputs

    @property
    def origin(self) -> str | None:
        """What the inputs do not describe; None where they are complete."""
        return os.fspath(self.tree) if self.tree else "a kept build folder" if self.kept else None

    @cached_property
    def _digests(self) -> dict[str, str]:
        try:
            return file_digests(self._files)
        except OSError as error:
            raise KilnError(f"{error.strerror}: {error.filename}", where=self.id) from error

    def _make(self, inputs: dict[str, Any]) -> Entry:
        return self.store.build(self.name, self.version, inputs, self.fill, replace=self.tree is not None)

    def fill(self, work: Work) -> dict[str, Any]:
        if self.tree:
            self._check_tree(self.tree)
        with self._alone_in_kept():
            self._run(work)
        for phase in self.phases:
            if phase == "install" and not any(work.root.iterdir()):
                raise KilnError("the install phase put nothing into the result", where=self.id)
        return {}

    def _run(self, work: Work) -> None:
        sandbox, jobserver = self.sandbox(work), self._workshop.jobserver
        words = ["sh", "/inputs/run.sh", *self.phases]
        with jobserver.slot():
            try:
                env = {"MAKEFLAGS": jobserver.makeflags}
                sandbox.with_env(env).run(words, log=work.log, pass_fds=jobserver.fds)
            except process.CommandFailed as error:
                raise self._failure(work, error) from error
            finally:
                self._keep_log(work)

    def _alone_in_kept(self) -> AbstractContextManager[object]:
        """Nobody else in the kept build folder, whatever the key of what they build."""
        if not self.kept:
            return nullcontext()
        return self.store.hold(Work(path=self.store.path / "work" / digest.of_value(os.fspath(self.kept))[:12]))

    def sandbox(self, work: Work) -> Sandbox:
        """The sandbox of this stage, with its folders filled below ``work`` where they are not yet."""
        inputs = work.path / "inputs"
        if not inputs.exists():
            for name, path in self._files.items():
                place = inputs / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                if digest.of_file(place).hash != self._digests[name]:
                    raise KilnError(f"{path} was edited meanwhile", where=self.id, hint="run the same command again")
            inputs.mkdir(exist_ok=True)
            (inputs / "run.sh").write_text(script(self.phases))
            seal(inputs, 0o644)
            if self.source and not self.tree:
                self.source.sound()
            merge([lib.sound().root for lib in self.sysroot()], work.folder("sysroot"))
            merge([tool.sound().root for tool in self.used], work.folder("tools"))
        build = self.kept or work.folder("build")
        build.mkdir(parents=True, exist_ok=True)
        build.chmod(0o755)
        mounts = [Mount(source=work.folder(name), target=f"/{name}") for name in ("inputs", "sysroot", "tools")]
        mounts.append(Mount(source=build, target="/build", writable=True))
        mounts.append(Mount(source=work.root, target="/dest", writable=True))
        source = self.tree or (self.source and self.source.built().root)
        if source:
            mounts.append(Mount(source=source, target="/src"))
        if self.before:
            mounts.append(Mount(source=self.before.sound().root, target="/config"))
        if self.initramfs:
            mounts.append(Mount(source=self.initramfs.sound().root, target=INITRAMFS))
        sandbox = self._workshop.tools.sandbox("build").with_mounts(mounts).with_env(_ENV, cwd="/build")
        return self._with_ccache(sandbox)

    def _with_ccache(self, sandbox: Sandbox) -> Sandbox:
        """With the compilers' cache, which knows a compiler by the keys of the tools that it comes from."""
        if not self._workshop.ccache:
            return sandbox.with_env({"CCACHE_DISABLE": "1"})
        folder = self._workshop.store.path / "ccache"
        folder.mkdir(exist_ok=True)
        tools = [self._workshop.tools["build"].key(), *(tool.key() for tool in self.used)]
        env = {"CCACHE_DIR": "/ccache", "CCACHE_MAXSIZE": self._workshop.ccache}
        env["CCACHE_COMPILERCHECK"] = f"string:{digest.of_value(tools)}"
        return sandbox.with_mounts([Mount(source=folder, target="/ccache", writable=True)]).with_env(env)

    def sysroot(self) -> list["Stage"]:
        """The libraries that it names, and all that these are compiled against."""
        return with_libs(self.libs)

    def work(self) -> Work:
        """Where this stage builds, or where its last build failed."""
        key = self.key()
        if key is None:
            raise KilnError("its dependencies are not built yet", where=self.id, hint=f"doit {self.id}")
        return self.store.work(self.name, self.version, key)

    def _check_tree(self, tree: Path) -> None:
        """Raise KilnError for a working tree that has hardly anything of the pinned source."""
        known = set(os.listdir(self.source.built().root)) if self.source else set()
        lacking = sorted(known - set(os.listdir(tree)))
        if 2 * len(lacking) > len(known):
            message = f"does not look like {self.package}: it lacks {', '.join(lacking[:5])}" + (
                " ..." * (len(lacking) > 5)
            )
            raise KilnError(
                message, where=os.fspath(tree), hint=f"let SRC be the top folder of a working tree of {self.package}"
            )

    def _keep_log(self, work: Work) -> None:
        copy = self._workshop.logs / f"{self.name}.log"
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work.log, copy)
        except OSError as error:  # the result has it as well, and is not worth losing for a copy
            say(f"{copy} cannot be written: {error.strerror}")

    def _failure(self, work: Work, error: process.CommandFailed) -> KilnError:
        lines = work.log.read_text(errors="replace").splitlines() if work.log.exists() else []
        begun = [line[3:] for line in lines if line.startswith("== ") and line[3:] in self.phases]
        phase = begun[-1] if begun else next(iter(self.phases))
        work.failed.write_text(phase)
        spoken = [line for line in lines if line.strip() and not line.startswith(("+ ", "== "))]
        shown = [f"  {_shortened(line)}" for line in spoken[-_SHOWN_LINES:]]
        log = os.path.relpath(self._workshop.logs / f"{self.name}.log")
        ended, retry = f"phase {phase} ended with status {error.status}", f"  retry    doit shell {self.package}"
        killed = error.status == _KILLED or any("Killed" in line for line in shown)
        memory = ["  memory   something was killed; where memory is scarce, lower KILN_JOBS"] if killed else []
        return BuildFailed("\n".join([ended, *shown, f"  log      {log}", *memory, retry]))


def with_libs(stages: Iterable[Stage]) -> list[Stage]:
    """These stages and all that they are compiled against, by name."""
    found: dict[str, Stage] = {}
    pending = list(stages)
    while pending:
        stage = pending.pop()
        if stage.id not in found:
            found[stage.id] = stage
            pending += stage.libs
    return [stage for _, stage in sorted(found.items())]


def _shortened(line: str) -> str:
    return line if len(line) <= _SHOWN_WIDTH else f"{line[:60]} ... {line[-_SHOWN_WIDTH + 65 :]}"


def script(phases: Mapping[str, list[dict[str, Any]]]) -> str:
    """A shell script with a function for each phase, that runs those it is given by name."""
    parts = ["set -eu", "umask 022", "PS4='+ '"]
    for name, actions in phases.items():
        parts.append(f"phase_{name}() {{\n{shell(actions) or ':'}\n}}")
    parts.append('for phase; do\necho "== $phase"\nset -x\n"phase_$phase"\n{ set +x; } 2>/dev/null\ndone')
    return "\n".join(parts) + "\n"

"""Stages: the parts of a package that have a result of their own, built inside the sandbox from recorded steps."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import process
from kiln.errors import KilnError
from kiln.jobs import Jobserver
from kiln.recipe.package import Package
from kiln.recipe.step import Step, file_digests, shell
from kiln.sandbox import Mount, Sandbox
from kiln.source.tree import Patched, SourceTree
from kiln.store import EPOCH, Entry, Store, Work
from kiln.target import Target
from kiln.tools import Tools

_ENV = {"SOURCE_DATE_EPOCH": str(EPOCH)}
_SHOWN_LINES = 12
_SHOWN_WIDTH = 160


class BuildFailed(KilnError):
    """A command of a phase failed; carries what the user needs to go on."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all stages are built with; ``logs`` is the folder where a user looks for them."""

    store: Store
    tools: Tools
    jobserver: Jobserver
    logs: Path


class Stage(Target):
    """One stage of a package for a board: recorded phases, and what they may see.

    Libraries and the stage before count by their content, tools by their key, so an equal result rebuilds nothing.
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
    ) -> None:
        super().__init__(workshop.store)
        self.package = package.name
        self.id = f"{package.name}:{stage}"
        self.name = package.name if stage == "build" else f"{package.name}-{stage}"
        self.version = version
        self.doc = f"{package.summary}, {version}"
        self.phases = {phase: step.actions for phase, step in steps.items()}
        self.source, self.before, self.used, self.libs = source, before, tuple(used), tuple(libs)
        tools = workshop.tools
        self.deps = (tools["sandbox"], tools["build"], *filter(None, (source, before)), *used, *libs)
        self._files = {name: path for step in steps.values() for name, path in step.files.items()}
        self._tools, self._jobserver, self._logs = tools, workshop.jobserver, workshop.logs

    def inputs(self) -> dict[str, Any] | None:
        contents = self.source.contents() if self.source else [None]
        return self._inputs(contents[0]) if contents else None

    def entry(self) -> Entry | None:
        if self._entry is None and self.source and not self.source.entry():
            # The source is not here, and need not be: any of its pinned contents may have been built already.
            for content in self.source.contents():
                self._entry = self._entry or self._find(self._inputs(content))
            return self._entry
        return super().entry()

    def _inputs(self, source: str | None) -> dict[str, Any] | None:
        by_content = {lib.package: lib.entry() for lib in self.libs}
        by_key = {tool.package: tool.key() for tool in self.used}
        before = self.before.entry() if self.before else None
        if not all(by_content.values()) or not all(by_key.values()) or (self.before and not before):
            return None
        return {
            "name": self.name,
            "version": self.version,
            "phases": self.phases,
            "files": self._digests(),
            "env": _ENV,
            "source": source,
            "config": before.digest if before else None,
            "tools": {"tree": self._tools["build"].key()} | by_key,
            "libs": {name: entry.digest for name, entry in by_content.items() if entry},
        }

    def _digests(self) -> dict[str, str]:
        try:
            return file_digests(self._files)
        except OSError as error:
            raise KilnError(f"{error.strerror}: {error.filename}", where=self.id) from error

    def fill(self, work: Work) -> dict[str, Any]:
        sandbox = self.sandbox(work)
        words = ["sh", "/inputs/run.sh", *self.phases]
        with self._jobserver.slot():
            env = dict(sandbox.env) | {"MAKEFLAGS": self._jobserver.makeflags}
            try:
                sandbox.with_env(env).run(words, log=work.log, pass_fds=self._jobserver.fds)
            except process.CommandFailed as error:
                raise self._failure(work, error) from error
            finally:
                self._keep_log(work)
        for phase in self.phases:
            if phase == "install" and not any(work.root.iterdir()):
                raise KilnError("the install phase put nothing into the result", where=self.id)
        return {}

    def sandbox(self, work: Work) -> Sandbox:
        """The sandbox of this stage, with its folders filled below ``work`` where they are not yet."""
        inputs = work.path / "inputs"
        if not inputs.exists():
            for name, path in self._files.items():
                place = inputs / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            inputs.mkdir(exist_ok=True)
            (inputs / "run.sh").write_text(script(self.phases))
            _merge([lib.built().root for lib in self.libs], work.folder("sysroot"))
            _merge([tool.built().root for tool in self.used], work.folder("tools"))
        mounts = [Mount(source=work.folder(name), target=f"/{name}") for name in ("inputs", "sysroot", "tools")]
        mounts.append(Mount(source=work.folder("build"), target="/build", writable=True))
        mounts.append(Mount(source=work.root, target="/dest", writable=True))
        if self.source:
            mounts.append(Mount(source=self.source.built().root, target="/src"))
        if self.before:
            mounts.append(Mount(source=self.before.built().root, target="/config"))
        return self._tools.sandbox("build").with_mounts(mounts).with_env(_ENV, cwd="/build")

    def work(self) -> Work:
        """Where this stage builds, or where its last build failed."""
        key = self.key()
        if key is None:
            raise KilnError("its dependencies are not built yet", where=self.id, hint=f"doit {self.id}")
        return Work(path=self.store.work_path(self.name, self.version, key))

    def _keep_log(self, work: Work) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work.log, self._logs / f"{self.name}.log")

    def _failure(self, work: Work, error: process.CommandFailed) -> KilnError:
        lines = work.log.read_text(errors="replace").splitlines() if work.log.exists() else []
        begun = [line[3:] for line in lines if line.startswith("== ") and line[3:] in self.phases]
        phase = begun[-1] if begun else next(iter(self.phases))
        work.failed.write_text(phase)
        spoken = [line for line in lines if line.strip() and not line.startswith(("+ ", "== "))]
        shown = [f"  {_shortened(line)}" for line in spoken[-_SHOWN_LINES:]]
        log = os.path.relpath(self._logs / f"{self.name}.log")
        full = "No space left on device" in "\n".join(lines[-50:])
        last = f"disk     full: set KILN_STORE to a folder with more room than {self.store.path}" if full else ""
        ended, retry = f"phase {phase} ended with status {error.status}", f"  retry    doit shell {self.package}"
        text = [ended, *shown, f"  log      {log}", retry, last]
        return BuildFailed("\n".join(line for line in text if line))


def _shortened(line: str) -> str:
    return line if len(line) <= _SHOWN_WIDTH else f"{line[:60]} ... {line[-_SHOWN_WIDTH + 65 :]}"


def script(phases: Mapping[str, list[dict[str, Any]]]) -> str:
    """A shell script with a function for each phase, that runs those it is given by name."""
    parts = ["set -eu", "umask 022", "PS4='+ '"]
    for name, actions in phases.items():
        parts.append(f"phase_{name}() {{\n{shell(actions) or ':'}\n}}")
    parts.append('for phase; do\necho "== $phase"\nset -x\n"phase_$phase"\n{ set +x; } 2>/dev/null\ndone')
    return "\n".join(parts) + "\n"


def _merge(roots: Sequence[Path], into: Path) -> None:
    """Lay sealed trees over each other by hard links: nothing is copied, and nobody can write to them."""
    for root in roots:
        for folder, folders, files in os.walk(root):
            place = into / os.path.relpath(folder, root)
            place.mkdir(parents=True, exist_ok=True)
            for name in [*files, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
                source, target = os.path.join(folder, name), place / name
                if os.path.lexists(target):
                    raise KilnError(f"two packages bring {os.path.relpath(target, into)} into one sysroot")
                os.link(source, target, follow_symlinks=False)

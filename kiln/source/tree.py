"""Sources as targets: fetched, unpacked and checked once, and patched where a recipe brings patches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kiln import digest, process
from kiln.errors import KilnError
from kiln.sandbox import Mount
from kiln.settings import Settings
from kiln.source.fetch import fetch
from kiln.source.pins import Git, Source, variants
from kiln.store import Store, Work
from kiln.target import UNKNOWN, Target
from kiln.tools import Tools
from kiln.trees import merge


class _Tree(Target):
    lazy = True
    # Builds copy files of a source with their modes, and then write to them.
    file_mode = 0o644


class SourceTree(_Tree):
    """The files of a pinned source, without version-control metadata."""

    def __init__(self, package: str, version: str, source: Source, settings: Settings, store: Store) -> None:
        super().__init__(store)
        self.id = f"{package}:fetch"
        self.name = f"{package}-source"
        self.version = version
        self.doc = f"the source of {package} {version}"
        self._source = source
        self._settings = settings

    def inputs(self) -> dict[str, Any]:
        pins = []
        for variant in variants(self._source):  # each by the digest of its files, or else that of its archive
            first = variant.origins[0]
            pins.append(first.content if isinstance(first, Git) else variant.content or first.sha256)
        return {"name": self.name, "version": self.version, "pins": pins}

    def contents(self) -> list[str]:
        """The content digests that this source may have: the real one where it is here, else those of its pins."""
        entry = self.entry()
        pinned = [variant.content for variant in variants(self._source) if variant.content]
        return [entry.digest] if entry else pinned

    def fill(self, work: Work) -> dict[str, Any]:
        shown = -1

        def report(done: int, total: int | None) -> None:
            nonlocal shown
            if done >> 20 != shown:
                shown = done >> 20
                work.note(f"{done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB"))

        return {"origin": fetch(self._source, into=work.root, settings=self._settings, report=report)}


class Patched(_Tree):
    """A source with the patches of its recipe applied."""

    def __init__(self, source: SourceTree, package: str, patches: Sequence[Path], tools: Tools) -> None:
        super().__init__(source.store, (source, tools["build"], tools["sandbox"]))
        self.id = f"{package}:patch"
        self.name = f"{package}-patched"
        self.version = source.version
        self.doc = f"the patched source of {package}"
        self._source = source
        self._patches = patches
        self._tools = tools

    def inputs(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "source": next(iter(self._source.contents()), UNKNOWN),
            "patches": [[path.name, digest.of_file(path).hash] for path in self._patches],
            "tools": self._tools["build"].key(),
        }

    def contents(self) -> list[str]:
        entry = self.entry()
        return [entry.digest] if entry else []

    def fill(self, work: Work) -> dict[str, Any]:
        inputs = work.folder("inputs")
        for path in self._patches:
            (inputs / path.name).write_bytes(path.read_bytes())
        # By links: patch writes a new file in the place of the one that it changes.
        merge([self._source.sound().root], work.root)
        mounts = [Mount(source=inputs, target="/inputs"), Mount(source=work.root, target="/dest", writable=True)]
        sandbox = self._tools.sandbox("build").with_mounts(mounts)
        patch = 'patch -p1 --forward --no-backup-if-mismatch -d /dest -i "/inputs/$file"'
        script = f'for file; do echo "== $file"; {patch}; done'
        try:
            sandbox.run(["sh", "-euc", script, "sh", *(path.name for path in self._patches)], log=work.log)
        except process.CommandFailed as error:
            _, _, said = work.log.read_text(errors="replace").rpartition("== ")
            name, *lines = said.strip().splitlines()
            raise KilnError("\n".join([f"{name} does not apply", *lines[-8:]]), where=self.id) from error
        return {}

"""Sources as targets: fetched, unpacked and checked once, and patched where a recipe brings patches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kiln import digest, process
from kiln.errors import KilnError
from kiln.sandbox import Mount
from kiln.settings import Settings
from kiln.source.fetch import fetch
from kiln.source.pins import Git, Source, Variant, variants
from kiln.store import Store, Work
from kiln.target import Target
from kiln.tools import Tools


class SourceTree(Target):
    """The files of a pinned source, without version-control metadata."""

    lazy = True
    # Builds copy files of a source with their modes, and then write to them.
    file_mode = 0o644

    def __init__(self, package: str, version: str, source: Source, settings: Settings, store: Store) -> None:
        super().__init__(store)
        self.id = f"{package}:fetch"
        self.name = f"{package}-source"
        self.version = version
        self.doc = f"the source of {package} {version}"
        self._source = source
        self._settings = settings

    def inputs(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "pins": [_pin(variant) for variant in variants(self._source)],
        }

    def contents(self) -> list[str]:
        """The content digests that this source may have: the real one where it is here, else those of its pins."""
        entry = self.entry()
        if entry:
            return [entry.digest]
        return [variant.content for variant in variants(self._source) if variant.content]

    def fill(self, work: Work) -> dict[str, Any]:
        shown = -1

        def report(done: int, total: int | None) -> None:
            nonlocal shown
            if done >> 20 == shown:
                return
            shown = done >> 20
            work.note(f"{done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB"))

        fetched = fetch(self._source, into=work.root, settings=self._settings, report=report)
        return {"origin": fetched.origin}


def _pin(variant: Variant) -> str:
    """What says which files a variant holds: their own digest, or else their archive's."""
    first = variant.origins[0]
    if isinstance(first, Git):
        return first.content
    return variant.content or first.sha256


class Patched(Target):
    """A source with the patches of its recipe applied."""

    lazy = True
    # Builds copy files of a source with their modes, and then write to them.
    file_mode = 0o644

    def __init__(self, source: SourceTree, package: str, patches: Sequence[Path], tools: Tools) -> None:
        super().__init__(source.store)
        self.id = f"{package}:patch"
        self.name = f"{package}-patched"
        self.version = source.version
        self.doc = f"the patched source of {package}"
        self.deps = (source, tools["build"], tools["sandbox"])
        self._source = source
        self._patches = patches
        self._tools = tools

    def inputs(self) -> dict[str, Any] | None:
        contents = self._source.contents()
        if not contents:
            return None
        return {
            "name": self.name,
            "version": self.version,
            "source": contents[0],
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
        sandbox = self._tools.sandbox("build")
        mounts = (
            Mount(source=self._source.built().root, target="/src"),
            Mount(source=inputs, target="/inputs"),
            Mount(source=work.root, target="/dest", writable=True),
        )
        patch = 'echo "== $file"; patch -p1 -d /dest -i "/inputs/$file"'
        script = f"cp -a /src/. /dest && chmod -R u+w /dest && for file; do {patch}; done"
        try:
            names = [path.name for path in self._patches]
            sandbox.with_mounts(mounts).run(["sh", "-euc", script, "sh", *names], log=work.log)
        except process.CommandFailed as error:
            lines = work.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise KilnError("\n".join(["a patch does not apply", *lines]), where=self.id) from error
        return {}

"""A small project in a folder of its own, with recipes that a test writes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from kiln.graph import Graph
from kiln.settings import Settings

HEADER = "from kiln import Archive, Autotools, Board, Debian, Git, Kconfig, Option, Package, Step\n"


class Project:
    """``root`` is laid out like a real one; ``store`` is its store."""

    def __init__(self, root: Path, kiln: Path) -> None:
        self.root = root
        self.store = root / "output/store"
        self._kiln = kiln
        for name in ("packages", "configs", "board"):
            (root / name).mkdir(parents=True)
        (root / "dodo.py").write_text((kiln / "dodo.py").read_text())
        self.file(
            "packages/linux/recipe.py",
            HEADER + 'linux = Package(name="linux", version="1", summary="", license="MIT", libc=False)\n',
        )
        self.board(packages=[])

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def recipe(self, name: str, *fields: str, phases: str = "") -> Path:
        """A package that is compiled by the tools alone; ``phases`` are further lines."""
        given = ", ".join([f'name="{name}"', 'version="1"', 'summary="a test"', 'license="MIT"', "libc=False", *fields])
        text = f"{HEADER}\npackage = Package({given})\n\n" + textwrap.dedent(phases)
        return self.file(f"packages/{name}/recipe.py", text)

    def board(self, *, packages: list[str], more: str = "", name: str = "test") -> Path:
        text = f'summary = "a test"\narch = "x86_64"\npackages = {packages!r}\n{textwrap.dedent(more)}'
        return self.file(f"configs/{name}.toml", text)

    def graph(self, board: str = "test") -> Graph:
        return Graph.load(Settings.read(self.root, {}), board)

    def doit(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run doit here, as a user does."""
        return subprocess.run(self.command(*words), cwd=self.root, env=self.env(env), capture_output=True, text=True)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "doit", *words, "BOARD=test"]

    def env(self, more: dict[str, str] | None = None) -> dict[str, str]:
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("KILN_", "PYTEST"))}
        return keep | {"PYTHONPATH": os.fspath(self._kiln)} | (more or {})

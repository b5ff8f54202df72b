"""A step: what a phase function talks to. It records commands; nothing runs before the whole plan is known."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.errors import KilnError, nearest

# Helpers that recipes may run inside the sandbox; seen there below /inputs/kiln.
_SCRIPTS = Path(__file__).parent.parent

# Where a result keeps the licences of its source, a folder a package.
LICENSES = "usr/share/licenses"


class Step:
    """Records one phase of a package.

    The folders are the same in every sandbox: ``src`` (read-only), ``build`` (scratch, and where commands run),
    ``dest`` (the result), ``sysroot`` (libraries compiled against), ``config`` (what the configure stage left).
    ``initramfs`` is the file that goes into a kernel which is built with one inside, else empty.
    """

    src = "/src"
    build = "/build"
    dest = "/dest"
    sysroot = "/sysroot"
    config = "/config"

    def __init__(self, folder: Path, options: Mapping[str, Any], *, initramfs: str = "") -> None:
        self.actions: list[dict[str, Any]] = []
        self.files: dict[str, Path] = {}
        self.initramfs = initramfs
        self._folder = folder
        self._options = options

    def run(self, *command: str, cwd: str = build, env: Mapping[str, str] | None = None) -> None:
        """Run a program in ``cwd`` with ``env`` added to the environment."""
        self.actions.append({"run": _words(command), "cwd": cwd, "env": dict(env or {})})

    def make(self, *words: str, cwd: str = build, **variables: str) -> None:
        """Run make; it takes its parallelism from the jobserver, so never give it ``-j``."""
        self.run("make", *words, *(f"{name}={value}" for name, value in variables.items()), cwd=cwd)

    def configure(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Run the source's own ``configure`` script in the build folder."""
        self.run(f"{self.src}/configure", *words, env=env)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file of the result; ``path`` is relative to its root."""
        self.actions.append({"write": self._inside(path), "text": text, "mode": mode})

    def copy(self, file: str, path: str, *, mode: int = 0o644) -> None:
        """Copy a file of the recipe's folder into the result."""
        self.actions.append({"copy": self.input(file), "to": self._inside(path), "mode": mode})

    def install(self, file: str, path: str, *, mode: int = 0o644) -> None:
        """Copy a file of the build folder into the result."""
        self.actions.append({"copy": f"{self.build}/{file}", "to": self._inside(path), "mode": mode})

    def license(self, package: str, file: str) -> None:
        """Keep a licence file of the source; kiln collects these, and leaves them out of the root file system."""
        name = file.replace("/", "-")
        place = f"{self.dest}/{LICENSES}/{package}/{name}"
        self.actions.append({"copy": f"{self.src}/{file}", "to": place, "mode": 0o644})

    def symlink(self, target: str, path: str) -> None:
        """Make a link in the result."""
        self.actions.append({"symlink": target, "to": self._inside(path)})

    def folder(self, path: str) -> None:
        """Make a folder in the result."""
        self.actions.append({"folder": self._inside(path)})

    def input(self, file: str | Path) -> str:
        """Make a file visible to commands; returns its path in the sandbox. A relative one is the recipe's."""
        place = self._folder / file
        if not os.path.isabs(file) and os.path.normpath(file).startswith(".."):
            raise KilnError(f"{file} lies outside the recipe's folder")
        if not place.is_file():
            raise KilnError(f"there is no file {file} beside the recipe", where=os.fspath(self._folder))
        name = "/".join(place.parts[-3:]) if os.path.isabs(file) else os.fspath(file)
        self.files[name] = place
        return f"/inputs/{name}"

    def script(self, name: str) -> str:
        """Make one of kiln's own helper scripts visible; returns its path in the sandbox."""
        self.files[f"kiln/{name}"] = _SCRIPTS / name
        return f"/inputs/kiln/{name}"

    def option(self, name: str) -> Any:
        """The board's value of an option of this package. Only what is read here can cause a rebuild."""
        if name not in self._options:
            raise KilnError(
                f"the recipe reads the option {name!r}, which it does not declare", hint=nearest(name, self._options)
            )
        return self._options[name]

    def _inside(self, path: str) -> str:
        clean = os.path.normpath(path.lstrip("/"))
        if clean == ".." or clean.startswith("../"):
            raise KilnError(f"{path!r} leads out of the result")
        return f"{self.dest}/{clean}"


def _words(command: tuple[str, ...]) -> list[str]:
    for word in command:
        if not isinstance(word, str):
            raise KilnError(f"a command is made of strings, found {word!r}")
    return list(command)


def shell(actions: list[dict[str, Any]]) -> str:
    """The recorded actions as lines of a POSIX shell script."""
    return "\n".join(_line(action) for action in actions)


def _line(action: dict[str, Any]) -> str:
    # In parentheses: `set -e` overlooks what fails in the middle of a bare list.
    if "run" in action:
        assigned = [f"{name}={shlex.quote(value)}" for name, value in sorted(action["env"].items())]
        words = " ".join(["env", *assigned, shlex.join(action["run"])] if assigned else [shlex.join(action["run"])])
        return f"(cd {shlex.quote(action['cwd'])} && {words})"
    if "folder" in action:
        return f"mkdir -p {shlex.quote(action['folder'])}"
    place = shlex.quote(action["to"] if "to" in action else action["write"])
    parent = f'mkdir -p "$(dirname {place})"'
    if "symlink" in action:
        return f"({parent} && ln -sfnT {shlex.quote(action['symlink'])} {place})"
    if "copy" in action:
        return f"({parent} && install -m {action['mode']:o} {shlex.quote(action['copy'])} {place})"
    return f"({parent} && printf %s {shlex.quote(action['text'])} > {place} && chmod {action['mode']:o} {place})"


def file_digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: digest.of_file(path).hash for name, path in sorted(files.items())}

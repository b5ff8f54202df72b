"""The tools trees: Debian packages, pinned in a lock and unpacked without root, that stand in for the host."""

import json
import os
import re
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kiln import process, sandbox
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source import debian
from kiln.source.download import download
from kiln.source.unpack import data_member, write
from kiln.store import Store, Work
from kiln.target import Target

DECLARATION = Path(__file__).with_name("tools.toml")
LOCK = Path(__file__).with_name("tools.lock")

# apt on its own, with the machine's keys and nothing of its state.
_APT = """
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/none";
APT::Install-Recommends "false";
APT::Architecture "amd64";
APT::Architectures "amd64";
"""

# Debian's own merge of /bin, /lib and /sbin into /usr is the work of a maintainer script.
_MERGED = ("bin", "lib", "lib64", "sbin")
_DOWNLOADS = 8
_UNPACKERS = 2
# The sets that no result is made with.
_ASKED_FOR = ("vm-", "clients", "checkers", "draw")


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A Debian package: ``path`` below the archive's base, and the sets that it belongs to."""

    name: str
    version: str
    path: str
    sha256: str
    sets: tuple[str, ...]


class Tools:
    """The declared sets, and a tree for each."""

    def __init__(self, settings: Settings, store: Store, declaration: Path = DECLARATION, lock: Path = LOCK) -> None:
        self._settings = settings
        self._lock = lock
        self._declared = tomllib.loads(declaration.read_text())
        self._trees = {name: ToolsTree(name, self, settings, store) for name in self._declared["sets"]}

    def __getitem__(self, name: str) -> "ToolsTree":
        return self._trees[name]

    def __iter__(self) -> Iterator["ToolsTree"]:
        return iter(self._trees.values())

    @cached_property
    def pins(self) -> tuple[Pin, ...]:
        try:
            rows = json.loads(self._lock.read_text())
            return tuple(Pin(**row | {"sets": tuple(row["sets"])}) for row in rows)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise KilnError(str(error), where=os.fspath(self._lock), hint="`doit tools:lock` writes it anew") from error

    def content(self, name: str) -> dict[str, Any]:
        """All that a set's tree follows from."""
        chosen = self._declared["sets"][name]
        return {
            "packages": {pin.name: pin.sha256 for pin in self.pins if name in pin.sets},
            "links": self._declared["links"] | chosen.get("links", {}),
            "files": self._declared["files"],
            "exclude": self._declared["exclude"],
            "folders": list(sandbox.MOUNT_POINTS),
        }

    def launcher(self) -> tuple[str, ...]:
        """How bubblewrap is started here. Raises KilnError where this machine forbids its name spaces."""
        found = sandbox.launcher(None if shutil.which("bwrap") else self["sandbox"].built().root)
        sandbox.require(found)
        return found

    def sandbox(self, name: str) -> sandbox.Sandbox:
        """An empty sandbox on the tree of a set that was built."""
        made = sandbox.Sandbox(root=self[name].built().root, launcher=self.launcher())
        if not self._settings.clock:
            return made
        mount = sandbox.Mount(source=self._settings.clock, target="/clock")
        return made.with_mounts([mount]).with_env({"LD_PRELOAD": "/clock/clock.so"})

    def renew(self) -> list[str]:
        """Write the lock anew with what the archive holds today; returns a line for each change."""
        before = {pin.name: pin.version for pin in self.pins} if self._lock.exists() else {}
        pins = _resolve(self._declared, debian.archives(self._settings.archive)[0])
        self._lock.write_text("[\n" + ",\n".join(json.dumps(asdict(pin)) for pin in pins) + "\n]\n")
        after = {pin.name: pin.version for pin in pins}
        changed = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
        return [f"{name}: {before.get(name, 'nothing')} -> {after.get(name, 'nothing')}" for name in changed]


class ToolsTree(Target):
    """One set of tools, unpacked: the ``/`` of a sandbox."""

    version = "debian12"

    def __init__(self, name: str, tools: Tools, settings: Settings, store: Store) -> None:
        super().__init__(store)
        self.id = f"tools:{name}"
        self.name = f"tools-{name}"
        self.doc = f"the tools of the {name} sandbox, from pinned Debian packages"
        # No result is made from the machine's tools: whoever runs a machine asks for them.
        self.lazy = not name.startswith(_ASKED_FOR)
        self._set = name
        self._tools = tools
        self._settings = settings

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version} | self._tools.content(self._set)

    def inputs(self) -> dict[str, Any]:
        return self._inputs

    def fill(self, work: Work) -> dict[str, Any]:
        pins = [pin for pin in self._tools.pins if self._set in pin.sets]
        for name in _MERGED:
            (work.root / "usr" / name).mkdir(parents=True)
            (work.root / name).symlink_to(f"usr/{name}")
        with ThreadPoolExecutor(_DOWNLOADS) as fetchers, ThreadPoolExecutor(_UNPACKERS) as unpackers:
            fetched = fetchers.map(lambda pin: _fetch(pin, self._settings), pins)
            unpacked = [unpackers.submit(_unpack, path, work.root, self._inputs["exclude"]) for path in fetched]
            for done, (pin, result) in enumerate(zip(pins, unpacked, strict=True), 1):
                result.result()
                work.note(f"{done} of {len(pins)} packages, {pin.name} {pin.version}")
        for name, text in self._inputs["files"].items():
            place = work.root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for name, target in self._inputs["links"].items():
            place = work.root / name
            if not place.is_symlink() and (place.parent / target).exists():
                place.symlink_to(target)
        for name in self._inputs["folders"]:
            (work.root / name).mkdir(exist_ok=True)
        return {}


def _fetch(pin: Pin, settings: Settings) -> Path:
    path = settings.downloads / "debian" / f"{pin.sha256[:12]}-{os.path.basename(pin.path)}"
    if path.exists():
        return path
    failures = []
    for base in debian.archives(settings.archive):
        try:
            download(f"{base}/{pin.path}", path, sha256=pin.sha256)
            return path
        except KilnError as error:
            failures.append(f"  {error.where}: {error.message}")
    raise KilnError(
        "\n".join([f"{pin.name} {pin.version} could not be downloaded", *failures]),
        hint="check the network, or set KILN_DEBIAN to the base URL of an archive that answers",
    )


def _unpack(deb: Path, root: Path, exclude: list[str]) -> None:
    """Unpack a Debian package below ``root``: no maintainer script runs, no owner or special bit is kept."""
    with deb.open("rb") as file, tarfile.open(fileobj=data_member(file), mode="r|") as archive:
        for member in archive:
            path = _merged(member.name)
            if not path or path.startswith(tuple(exclude)):
                continue
            place = os.path.join(root, path)
            os.makedirs(place if member.isdir() else os.path.dirname(place), exist_ok=True)
            if member.issym():
                os.symlink(member.linkname, place)
            elif member.islnk():
                os.link(os.path.join(root, _merged(member.linkname)), place)
            elif member.isreg():
                write(archive, member, place)


def _merged(name: str) -> str:
    path = os.path.normpath(name.lstrip("/"))
    if path.startswith(".."):
        raise KilnError(f"a package holds the path {name}, which leads outside")
    first = path.partition("/")[0]
    return "" if path == "." or path in _MERGED else f"usr/{path}" if first in _MERGED else path


def _resolve(declared: Mapping[str, Any], archive: str) -> list[Pin]:
    """The packages of each declared set and all that they need, found by apt's solver in ``main`` alone."""
    if not shutil.which("apt-get"):
        raise KilnError("renewing the lock needs apt", hint="run `doit tools:lock` on a Debian machine or container")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("state/lists/partial", "cache/archives/partial"):
            os.makedirs(f"{folder}/{name}")
        Path(folder, "status").touch()
        Path(folder, "sources.list").write_text(f"deb {archive} {declared['release']} main\n")
        Path(folder, "apt.conf").write_text(_APT.format(folder=folder))
        env = dict(os.environ) | {"APT_CONFIG": f"{folder}/apt.conf", "LC_ALL": "C"}
        process.run(["apt-get", "update", "-q"], env=env)
        members: dict[str, list[str]] = {}
        for name, chosen in declared["sets"].items():
            try:
                out = process.run(["apt-get", "install", "-s", "-q", *chosen["packages"]], env=env).decode()
            except process.CommandFailed as error:
                raise KilnError(error.message, where=f"{DECLARATION.name}, set {name}") from error
            for package in re.findall(r"(?m)^Inst (\S+)", out):
                members.setdefault(package, []).append(name)
        shown = process.run(["apt-cache", "show", "--no-all-versions", *sorted(members)], env=env).decode()
    pins = []
    for stanza in sorted(shown.strip().split("\n\n")):
        fields = dict(re.findall(r"(?m)^(\S+): (.*)$", stanza))
        name, version, path, sha256 = (fields[key] for key in ("Package", "Version", "Filename", "SHA256"))
        pins.append(Pin(name=name, version=version, path=path, sha256=sha256, sets=tuple(members[name])))
    return pins

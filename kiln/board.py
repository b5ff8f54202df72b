"""Boards: what ``configs/<board>.toml`` chooses, checked key by key, and the files that ``board/<board>/`` brings."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from kiln import arch
from kiln.arch import Arch
from kiln.errors import KilnError, nearest
from kiln.image.accounts import User
from kiln.interface import Interface
from kiln.kernel import Prebuilt
from kiln.recipe.load import Recipe
from kiln.vm.qemu import Machine

_WORDS = {str: "a string", int: "a whole number", list: "a list of strings", dict: "a table"}

# The folder of dracut's configurations.
_DRACUT = "dracut.conf.d"

# What an image consists of where its board does not say.
_IMAGES = ("cpio", "tar", "ext4")

# What a board chooses by one word.
_CHOICES = {
    "libc": ("static", "shared"),
    "network": ("kernel", "dhcp", "static", "none"),
    "sshd": ("none", "openssh", "dropbear"),
    "initramfs": ("simple", "dracut", "none"),
    "loader": ("syslinux", "none"),
    "disk_root": ("ext4", "squashfs", "erofs"),
    "compress": ("zstd", "gzip", "lz4", "none", "xz"),
}


@dataclass(frozen=True, kw_only=True)
class Board:
    """A machine to build for. Recipes see it as the ``board`` of their phases."""

    name: str
    root: Path
    summary: str
    arch: Arch
    packages: tuple[str, ...]
    hostname: str
    cmdline: str
    versions: Mapping[str, str] = field(default_factory=dict)
    kconfig: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    users: tuple[User, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    private_keys: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    libc: str = "static"
    network: str = "kernel"
    interfaces: tuple[Interface, ...] = ()
    initramfs: str = "simple"
    initramfs_must: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    dracut: tuple[str, ...] = ()
    loader: str = "syslinux"
    images: tuple[str, ...] = (*_IMAGES, "disk")
    compress: str = "zstd"
    disk_root: str = "ext4"
    root_size: int | None = None
    budget: Mapping[str, int] = field(default_factory=dict)
    kernel: Prebuilt | None = None
    machine: Machine = field(default_factory=Machine)

    @property
    def triple(self) -> str:
        """The name of the board's system in GNU terms, such as ``x86_64-linux-musl``."""
        return self.arch.triple

    @property
    def cc(self) -> str:
        """The C compiler for programs of the image."""
        return f"{self.arch.triple}-gcc"

    @property
    def files(self) -> Path:
        """The board's own folder."""
        return self.root / "board" / self.name

    def fragments(self, package: str) -> list[Path]:
        """The board's configuration fragments for a package: the shared ones that it chose, then all of its own."""
        shared = self._shared(package, ".config", self.kconfig.get(package, ()), f"kconfig.{package}")
        return shared + sorted((self.files / package).glob("*.config"))

    def dracut_confs(self, *more: str) -> list[Path]:
        """The board's configurations of dracut: the shared ones that it chose, all of its own, then ``more`` shared."""
        own = sorted((self.files / _DRACUT).glob("*.conf"))
        return self.shared_confs(*self.dracut) + own + self.shared_confs(*more)

    def shared_confs(self, *names: str) -> list[Path]:
        """Configurations of dracut that all boards share."""
        return self._shared(_DRACUT, ".conf", names, "dracut")

    def _shared(self, folder: str, ending: str, names: Iterable[str], key: str) -> list[Path]:
        """The files of those names that all boards share; ``key`` is what names them."""
        shared = self.root / "board/common" / folder
        chosen = []
        for name in names:
            file = shared / f"{name}{ending}"
            if not file.is_file():
                known = nearest(name, (path.stem for path in shared.glob(f"*{ending}")))
                raise KilnError(f"there is no {os.path.relpath(file, self.root)}", where=key, hint=known)
            chosen.append(file)
        return chosen

    def file(self, name: str) -> Path:
        """Where a file is that the board brings, or else the one that all boards share."""
        own = self.files / name
        return own if own.exists() else self.root / "board/common" / name

    @property
    def overlays(self) -> list[Path]:
        """Folders that are laid over the packages' files, the board's own last."""
        return [path for path in (self.root / "board/common/overlay", self.files / "overlay") if path.is_dir()]


def names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "configs").glob("*.toml"))


def load(root: Path, name: str, recipes: Mapping[str, Recipe]) -> Board:
    """The board of that name. Raises KilnError with file, line and key for the first mistake."""
    if name not in names(root):
        raise KilnError(f"there is no board {name!r}", where="BOARD", hint=nearest(name, names(root)))
    reader = _Reader(root)
    return reader.board(name, reader.table(f"configs/{name}.toml"), recipes)


class _Reader:
    """Reads a board's file and those that it includes; remembers their texts, to say where a mistake is."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._texts: dict[str, str] = {}

    def table(self, file: str) -> dict[str, Any]:
        """What a file says, over what those that it includes say."""
        self._texts[file] = (self._root / file).read_text()
        try:
            own = tomllib.loads(self._texts[file])
        except tomllib.TOMLDecodeError as error:
            raise KilnError(str(error), where=file) from error
        included = own.pop("include", [])
        self._check((), {"include": included}, {"include": list})
        table: dict[str, Any] = {}
        known = [path.stem for path in (self._root / "configs/common").glob("*.toml")]
        for name in included:
            if name not in known:
                raise self._error(("include",), f"there is no file configs/common/{name}.toml", nearest(name, known))
            if (more := f"configs/common/{name}.toml") in self._texts:
                raise self._error(("include",), f"{more} is included twice")
            table = _merged(table, self.table(more))
        return _merged(table, own)

    def board(self, name: str, table: Mapping[str, Any], recipes: Mapping[str, Recipe]) -> Board:
        known = {
            "summary": str, "arch": str, "packages": list, "hostname": str, "cmdline": str, "root_size": str,
            "versions": dict, "kconfig": dict, "options": dict, "users": dict, "groups": dict, "owners": dict,
            "private_keys": list, "interfaces": dict, "qemu": dict, "images": list, "budget": dict, "kernel": dict,
            "dracut": list, "initramfs_must": list, "early": list,
        } | dict.fromkeys(_CHOICES, str)  # fmt: skip
        self._check((), table, known, required=("summary", "arch", "packages"))
        for key, kind in {
            "versions": str,
            "owners": str,
            "kconfig": list,
            "options": dict,
            "groups": int,
            "budget": str,
        }.items():
            self._check((key,), table.get(key, {}), dict.fromkeys(table.get(key, {}), kind))
        for key in ("hostname", "cmdline"):
            if not table.get(key, "").isprintable():
                raise self._error((key,), "a line break or control character in it")
        for key, choices in _CHOICES.items():
            if table.get(key, choices[0]) not in choices:
                raise self._error((key,), f"{table[key]!r} is not a choice", nearest(table[key], choices))
        sshd = table.get("sshd", "none")
        loader = table.get("loader", "syslinux" if table["arch"] == "x86_64" else "none")
        board = Board(
            name=name,
            root=self._root,
            summary=table["summary"],
            arch=self._guard(("arch",), lambda: arch.find(table["arch"])),
            packages=(*table["packages"], *([] if sshd == "none" else [sshd])),
            hostname=table.get("hostname", name),
            cmdline=table.get("cmdline", ""),
            versions=table.get("versions", {}),
            kconfig={key: tuple(value) for key, value in table.get("kconfig", {}).items()},
            options=table.get("options", {}),
            users=self._users(table.get("users", {})),
            groups=table.get("groups", {}),
            private_keys=tuple(table.get("private_keys", ())),
            owners=table.get("owners", {}),
            libc=table.get("libc", _CHOICES["libc"][0]),
            network=table.get("network", "kernel"),
            interfaces=self._interfaces(table.get("interfaces", {})),
            initramfs=table.get("initramfs", _CHOICES["initramfs"][0]),
            initramfs_must=tuple(table.get("initramfs_must", ())),
            early=tuple(table.get("early", ())),
            dracut=tuple(table.get("dracut", ())),
            loader=loader,
            images=tuple(table.get("images", _IMAGES if loader == "none" else (*_IMAGES, "disk"))),
            compress=table.get("compress", _CHOICES["compress"][0]),
            disk_root=table.get("disk_root", _CHOICES["disk_root"][0]),
            budget={name: self._size(("budget", name), size) for name, size in table.get("budget", {}).items()},
            kernel=self._kernel(table["kernel"]) if "kernel" in table else None,
            root_size=self._size(("root_size",), table["root_size"]) if "root_size" in table else None,
            machine=self._machine(table.get("qemu", {}), table["arch"]),
        )
        if board.loader == "syslinux" and board.arch.name != "x86_64":
            raise self._error(("loader",), f"syslinux starts PCs, not {board.arch.name}", 'loader = "none"')
        if (board.network == "static") != bool(board.interfaces):
            hint = 'such as [interfaces.eth0] with address = "10.0.2.15/24"'
            raise self._error(("network",), 'network = "static" and [interfaces] go together', hint)
        if board.early and board.initramfs == "none":
            raise self._error(("early",), "there is no initramfs that it could lie in front of", 'initramfs = "simple"')
        self._packages(board, recipes)
        return replace(board, options=self._options(board, recipes))

    def _packages(self, board: Board, recipes: Mapping[str, Recipe]) -> None:
        places: list[tuple[tuple[str, ...], str]] = [(("packages",), name) for name in board.packages]
        places += [(("early",), name) for name in board.early]
        for key in ("versions", "kconfig", "options"):
            places += [((key, name), name) for name in getattr(board, key)]
        for place, name in places:
            if name not in recipes:
                raise self._error(place, f"there is no package {name!r}", nearest(name, recipes))
        for name in board.kconfig:
            self._guard(("kconfig", name), partial(board.fragments, name))
        self._guard(("dracut",), board.dracut_confs)
        for name, version in board.versions.items():
            known = recipes[name].package.sources
            if version not in known:
                raise self._error(
                    ("versions", name), f"{name} has no version {version!r}", nearest(str(version), known)
                )

    def _options(self, board: Board, recipes: Mapping[str, Recipe]) -> dict[str, dict[str, Any]]:
        for name, chosen in board.options.items():
            declared = recipes[name].package.options
            for key, value in chosen.items():
                place = ("options", name, key)
                if key not in declared:
                    raise self._error(place, f"{name} has no option {key!r}", nearest(key, declared))
                self._guard(place, partial(declared[key].check, value))
        defaults: dict[str, dict[str, Any]] = {
            name: {key: option.default for key, option in recipe.package.options.items()}
            for name, recipe in recipes.items()
        }
        return {name: chosen | dict(board.options.get(name, {})) for name, chosen in defaults.items()}

    def _users(self, table: Mapping[str, Any]) -> tuple[User, ...]:
        kinds = {"uid": int, "gid": int, "home": str, "shell": str, "comment": str, "password": str, "groups": list}
        users = []
        for name, chosen in ({"root": {"uid": 0, "home": "/root"}} | dict(table)).items():
            place = ("users", name)
            if not isinstance(chosen, dict):
                raise self._error(place, f"expected a table, found {chosen!r}")
            self._check(place, chosen, kinds | {"authorized_keys": str}, required=("uid",))
            fields = {"gid": chosen["uid"]} | _with_tuples(chosen)
            if "authorized_keys" in chosen:
                fields["authorized_keys"] = self._public_keys((*place, "authorized_keys"), chosen["authorized_keys"])
            users.append(self._guard(place, partial(User, name=name, **fields)))
        return tuple(users)

    def _public_keys(self, place: tuple[str, ...], file: str) -> str:
        """The text of a file with public keys; ``file`` is relative to the project."""
        try:
            return (self._root / Path(file).expanduser()).read_text()
        except (OSError, ValueError) as error:
            hint = "name a file with public keys, such as board/<board>/authorized_keys"
            raise self._error(place, f"cannot read {file}: {error}", hint) from error

    def _interfaces(self, table: Mapping[str, Any]) -> tuple[Interface, ...]:
        interfaces = []
        for name, chosen in table.items():
            place = ("interfaces", name)
            if not isinstance(chosen, dict):
                raise self._error(place, f"expected a table, found {chosen!r}")
            self._check(place, chosen, {"address": str, "gateway": str, "dns": list}, required=("address",))
            interfaces.append(self._guard(place, partial(Interface, name=name, **_with_tuples(chosen))))
        return tuple(interfaces)

    def _kernel(self, table: Mapping[str, Any]) -> Prebuilt:
        self._check(("kernel",), table, {item.name: str for item in fields(Prebuilt)}, required=("file", "sha256"))
        kernel: Prebuilt = self._guard(("kernel",), lambda: Prebuilt(**table))
        return kernel

    def _machine(self, table: Mapping[str, Any], arch_name: str) -> Machine:
        kinds = {item.name: type(item.default) for item in fields(Machine) if item.name != "arch"}
        self._check(("qemu",), table, {name: list if kind is tuple else kind for name, kind in kinds.items()})
        cpu = {"cpu": self._guard(("arch",), lambda: arch.find(arch_name)).cpu}
        machine: Machine = self._guard(("qemu",), lambda: Machine(arch=arch_name, **cpu | _with_tuples(table)))
        return machine

    def _size(self, place: tuple[str, ...], text: str) -> int:
        match = re.fullmatch(r"([1-9][0-9]*)([KMG])", text)
        if not match:
            raise self._error(place, f"{text!r} is no size", "write a number and K, M or G, such as 64M")
        return int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2]]

    def _check(
        self,
        place: tuple[str, ...],
        table: Mapping[str, Any],
        kinds: Mapping[str, type[Any]],
        required: tuple[str, ...] = (),
    ) -> None:
        for key, value in table.items():
            if key not in kinds:
                raise self._error((*place, key), f"unknown key {key!r}", nearest(key, kinds))
            strings = type(value) is not list or all(isinstance(item, str) for item in value)
            if type(value) is not kinds[key] or not strings:
                raise self._error((*place, key), f"expected {_WORDS[kinds[key]]}, found {value!r}")
        for key in required:
            if key not in table:
                raise self._error(place, f"the key {key!r} is missing")

    def _guard(self, place: tuple[str, ...], make: Any) -> Any:
        try:
            return make()
        except KilnError as error:
            raise self._error(place, error.message, error.hint) from error

    def _error(self, place: tuple[str, ...], message: str, hint: str | None = None) -> KilnError:
        # The file that says the most of it, and the board's own before those that it includes.
        found = [(*_line(text, place), file) for file, text in self._texts.items()]
        _, line, file = max(found, key=lambda item: item[0])
        where = f"{file}:{line}" + (f", {'.'.join(place)}" if place else "")
        return KilnError(message, where=where, hint=hint)


def _line(text: str, place: tuple[str, ...]) -> tuple[int, int]:
    """How many words of a key are found, and the line: in its own table, or as a dotted key or table header."""
    table: tuple[str, ...] = ()
    depth, best = 0, 1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\]]+)\]+", line)
        key = re.match(r"\s*([\w.\"'/-]+)\s*=", line)
        if header:
            table = _keys(header[1])
            here = table
        elif key:
            here = (*table, *_keys(key[1]))
        else:
            continue
        if here == place:
            return len(place), number
        if here == place[: len(here)]:
            depth, best = len(here), number
    return depth, best


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one; where both have a value that is no table, that of ``above``."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _keys(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"' ") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", text.strip()))

"""Boards: what ``configs/<board>.toml`` chooses, checked key by key, and the files that ``board/<board>/`` brings."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from kiln import arch
from kiln.arch import Arch
from kiln.errors import KilnError, nearest
from kiln.image.accounts import User
from kiln.recipe.load import Recipe
from kiln.vm.qemu import Machine

_WORDS = {str: "a string", int: "a whole number", list: "a list of strings", dict: "a table"}


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
    owners: Mapping[str, str] = field(default_factory=dict)
    root_size: int | None = None
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
        own = sorted((self.files / package).glob("*.config"))
        shared = self.root / "board/common" / package
        chosen = []
        for name in self.kconfig.get(package, ()):
            file = shared / f"{name}.config"
            if not file.is_file():
                known = nearest(name, (path.stem for path in shared.glob("*.config")))
                raise KilnError(f"there is no fragment {name!r}", where=f"kconfig.{package}", hint=known)
            chosen.append(file)
        return chosen + own

    @property
    def overlays(self) -> list[Path]:
        """Folders that are laid over the packages' files, the board's own last."""
        return [path for path in (self.root / "board/common/overlay", self.files / "overlay") if path.is_dir()]


def names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "configs").glob("*.toml"))


def load(root: Path, name: str, recipes: Mapping[str, Recipe]) -> Board:
    """The board of that name. Raises KilnError with file, line and key for the first mistake."""
    file = root / "configs" / f"{name}.toml"
    if name not in names(root):
        raise KilnError(f"there is no board {name!r}", where="BOARD", hint=nearest(name, names(root)))
    text = file.read_text()
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KilnError(str(error), where=os.path.relpath(file, root)) from error
    return _Reader(file=os.path.relpath(file, root), text=text).board(root, name, table, recipes)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    file: str
    text: str

    def board(self, root: Path, name: str, table: Mapping[str, Any], recipes: Mapping[str, Recipe]) -> Board:
        known = {
            "summary": str, "arch": str, "packages": list, "hostname": str, "cmdline": str, "root_size": str,
            "versions": dict, "kconfig": dict, "options": dict, "users": dict, "owners": dict, "qemu": dict,
        }  # fmt: skip
        self._check((), table, known, required=("summary", "arch", "packages"))
        for key, kind in {"versions": str, "owners": str, "kconfig": list, "options": dict}.items():
            self._check((key,), table.get(key, {}), dict.fromkeys(table.get(key, {}), kind))
        for key in ("hostname", "cmdline"):
            if not table.get(key, "").isprintable():
                raise self._error((key,), "a line break or control character in it")
        board = Board(
            name=name,
            root=root,
            summary=table["summary"],
            arch=self._guard(("arch",), lambda: arch.find(table["arch"])),
            packages=tuple(table["packages"]),
            hostname=table.get("hostname", name),
            cmdline=table.get("cmdline", ""),
            versions=table.get("versions", {}),
            kconfig={key: tuple(value) for key, value in table.get("kconfig", {}).items()},
            options=table.get("options", {}),
            users=self._users(table.get("users", {})),
            owners=table.get("owners", {}),
            root_size=self._size(("root_size",), table["root_size"]) if "root_size" in table else None,
            machine=self._machine(table.get("qemu", {}), table["arch"]),
        )
        self._packages(board, recipes)
        return replace(board, options=self._options(board, recipes))

    def _packages(self, board: Board, recipes: Mapping[str, Recipe]) -> None:
        places: list[tuple[tuple[str, ...], str]] = [(("packages",), name) for name in board.packages]
        for key in ("versions", "kconfig", "options"):
            places += [((key, name), name) for name in getattr(board, key)]
        for place, name in places:
            if name not in recipes:
                raise self._error(place, f"there is no package {name!r}", nearest(name, recipes))
        for name in board.kconfig:
            self._guard(("kconfig", name), partial(board.fragments, name))
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
        for name, chosen in ({"root": {"uid": 0, "gid": 0, "home": "/root"}} | dict(table)).items():
            if not isinstance(chosen, dict):
                raise self._error(("users", name), f"expected a table, found {chosen!r}")
            self._check(("users", name), chosen, kinds, required=("uid", "gid"))
            make = partial(User, name=name, **_with_tuples(chosen))
            users.append(self._guard(("users", name), make))
        return tuple(users)

    def _machine(self, table: Mapping[str, Any], arch_name: str) -> Machine:
        kinds = {item.name: type(item.default) for item in fields(Machine) if item.name != "arch"}
        self._check(("qemu",), table, {name: list if kind is tuple else kind for name, kind in kinds.items()})
        return Machine(arch=arch_name, **_with_tuples(table))

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
        where = f"{self.file}:{self._line(place)}" + (f", {'.'.join(place)}" if place else "")
        return KilnError(message, where=where, hint=hint)

    def _line(self, place: tuple[str, ...]) -> int:
        """The line of a key: in its own table, or as a dotted key or table header."""
        table: tuple[str, ...] = ()
        best = 1
        for number, line in enumerate(self.text.splitlines(), 1):
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
                return number
            if here == place[: len(here)]:
                best = number
        return best


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _keys(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"' ") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", text.strip()))

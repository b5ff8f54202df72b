"""Packages: what a recipe declares. A package is data; its style gives the usual phases, and functions replace them."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from kiln.errors import KilnError, nearest
from kiln.image.accounts import User
from kiln.image.manifest import capability_value
from kiln.recipe.step import Step
from kiln.source.pins import Archive, Debian, Git, Source

if TYPE_CHECKING:
    from kiln.board import Board

Phase = Callable[[Step, "Board"], None]
P = TypeVar("P", bound=Phase)

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")

# How the styles compile and link programs: small, and for the most part alone. An image needs no symbols.
_CFLAGS = ("-Os", "-ffunction-sections", "-fdata-sections")
_LDFLAGS = ("-s", "-Wl,--gc-sections")


@dataclass(frozen=True, kw_only=True)
class Option:
    """Something that a board may choose. The type of ``default`` is the option's type.

    ``libs`` names the packages that a value is compiled against, beside those of the package itself.
    """

    default: bool | int | str
    doc: str
    choices: tuple[str, ...] = ()
    libs: Mapping[bool | int | str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value, names in self.libs.items():
            self.check(value)
            if not _all(tuple, names, str):
                raise KilnError(f"expected {_STRINGS}, found {names!r}", where=f"option, libs of {value!r}")

    def check(self, value: Any) -> bool | int | str:
        """``value`` if it fits; raises KilnError that says what was expected."""
        if type(value) is not type(self.default):
            words = {bool: "true or false", int: "a whole number", str: "a string"}
            raise KilnError(f"expected {words[type(self.default)]}, found {value!r}")
        if self.choices and value not in self.choices:
            raise KilnError(f"{value!r} is not a choice", hint=nearest(str(value), self.choices))
        result: bool | int | str = value
        return result


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package without a style: each phase that it has is a function of its recipe.

    ``source`` is a pinned source, or the name of the package whose source it shares; ``versions`` holds the pinned
    sources of further versions that a board may choose. ``tools`` run on the build machine, ``libs`` are compiled
    against, ``runtime`` must be in the image. ``libc`` says that it is compiled for the board with our toolchain,
    ``shared`` that it makes shared libraries, or is linked against those of others, whatever the board says.
    ``modes`` gives paths of the result other permissions than 0644, or 0755 for folders and programs, ``capabilities``
    lets programs do more than who runs them. ``dracut`` names what in a configuration of dracut calls for it: modules,
    or programs. ``users`` are the system accounts that it needs, ``license_files`` the files of its source that hold
    the text of its license.
    """

    name: str
    version: str
    license: str
    summary: str
    source: Source | str | None = None
    versions: Mapping[str, Source] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    libs: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    libc: bool = True
    shared: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    capabilities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    users: tuple[User, ...] = ()
    license_files: tuple[str, ...] = ()
    dracut: tuple[str, ...] = ()
    phases: dict[str, Phase] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for item in fields(self):
            fits, expected = _EXPECTED.get(item.name, (lambda _: True, ""))
            if not fits(value := getattr(self, item.name)):
                raise KilnError(f"expected {expected}, found {value!r}", where=f"package {self.name}, {item.name}")
        if not _NAME.fullmatch(self.name):
            raise KilnError(f"{self.name!r} is no package name", hint="use a-z, 0-9, '+', '.' and '-'")
        if not re.fullmatch(r"[A-Za-z0-9][\w.+~-]*", self.version):
            raise KilnError(f"{self.version!r} is no version", where=f"package {self.name}, version")
        for names in self.capabilities.values():
            try:
                capability_value(names)
            except KilnError as error:
                where = f"package {self.name}, capabilities"
                raise KilnError(error.message, where=where, hint=error.hint) from error
        for file in self.license_files:
            if file != os.path.normpath(file) or file.startswith(("/", "..")):
                message = f"{file!r} is no path inside the source"
                raise KilnError(message, where=f"package {self.name}, license_files")
        if self.license_files and self.source is None:
            raise KilnError("there is no source to take them from", where=f"package {self.name}, license_files")
        try:
            _check_license(self.license)
        except InvalidLicenseExpression as error:
            raise KilnError(str(error), where=f"package {self.name}, license", hint="see spdx.org/licenses") from error

    def configure(self, function: P) -> P:
        """Let ``function`` be the configure phase."""
        return self._replace("configure", function)

    def build(self, function: P) -> P:
        """Let ``function`` be the build phase."""
        return self._replace("build", function)

    def install(self, function: P) -> P:
        """Let ``function`` be the install phase."""
        return self._replace("install", function)

    def phase(self, name: str) -> Phase | None:
        """The function of a phase: the recipe's own, or else the style's."""
        return self.phases.get(name) or getattr(self, f"style_{name}", None)

    def is_linked(self, board: "Board") -> bool:
        """Whether its programs need shared libraries to run."""
        return self.libc and (self.shared or board.libc == "shared")

    @property
    def cflags(self) -> tuple[str, ...]:
        """How a style compiles."""
        return (*_CFLAGS, "-fPIC") if self.shared else _CFLAGS

    def ldflags(self, board: "Board") -> tuple[str, ...]:
        """How a style links. A shared library may need others, which the linker looks up as well."""
        if not self.is_linked(board):
            return ("-static", *_LDFLAGS)
        # Programs that are compiled for one place are linked for it, too.
        place = () if self.shared else ("-no-pie",)
        return (*_LDFLAGS, *place, f"-Wl,-rpath-link,{Step.sysroot}/usr/lib")

    @property
    def stages(self) -> Mapping[str, tuple[str, ...]]:
        """The parts that have a result of their own in the store, and the phases of each."""
        return {"build": ("configure", "build", "install")}

    @property
    def sources(self) -> Mapping[str, Source]:
        """The pinned source of each version."""
        own = {self.version: self.source} if isinstance(self.source, (Git, Archive, Debian)) else {}
        return own | dict(self.versions)

    def libs_for(self, chosen: Mapping[str, Any]) -> set[str]:
        """The packages that it is compiled against where its options have the values ``chosen``."""
        values = [option.libs.get(chosen.get(name, option.default), ()) for name, option in self.options.items()]
        return set(self.libs).union(*values)

    @property
    def possible_libs(self) -> set[str]:
        """The packages that it may be compiled against."""
        return set(self.libs).union(*(names for option in self.options.values() for names in option.libs.values()))

    def _replace(self, name: str, function: P) -> P:
        self.phases[name] = function
        return function


@dataclass(frozen=True, kw_only=True)
class Autotools(Package):
    """``configure``, ``make``, ``make install``, out of tree. ``args`` are added to the usual ones of configure.

    ``copied`` is for software that builds beside its sources alone: it gets a copy of them to write to.
    """

    args: tuple[str, ...] = ()
    copied: bool = False

    def style_configure(self, step: Step, board: "Board", *more: str) -> None:
        # Where both are named, no program of the board is run, even if the build machine could.
        systems = ("--build=x86_64-linux-gnu", f"--host={board.triple}")
        folders = ("--prefix=/usr", "--sysconfdir=/etc", "--localstatedir=/var")
        env = {"CC": board.cc, "CFLAGS": " ".join(self.cflags), "LDFLAGS": " ".join(self.ldflags(board))}
        # Without these, it would find libraries of the build machine.
        env |= {"PKG_CONFIG_LIBDIR": f"{step.sysroot}/usr/lib/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": step.sysroot}
        words = (*systems, *folders, *self.args, *more)
        if self.copied:
            step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
            step.run("./configure", *words, env=env)
        else:
            step.configure(*words, env=env)

    def style_build(self, step: Step, board: "Board") -> None:
        step.make()

    def style_install(self, step: Step, board: "Board") -> None:
        step.make("install", f"DESTDIR={step.dest}")


@dataclass(frozen=True, kw_only=True)
class Meson(Package):
    """``meson setup``, ``ninja``, ``meson install``, out of tree. ``settings`` are the values of Meson's ``-D``."""

    settings: Mapping[str, bool | int | str] = field(default_factory=dict)

    def style_configure(self, step: Step, board: "Board") -> None:
        # A build folder that was kept would stay as it was configured; what is compiled in it may stay.
        step.run("rm", "-rf", "meson-private")
        step.run("sh", "-c", 'printf %s "$1" > cross.ini', "sh", "\n".join(_cross_file(self, step, board)))
        folders = ("--prefix=/usr", "--libdir=lib", "--sysconfdir=/etc", "--localstatedir=/var")
        usual = (
            "--wrap-mode=nodownload",
            "-Doptimization=s",
            "-Ddebug=false",
            f"-Ddefault_library={'shared' if self.shared else 'static'}",
        )
        chosen = [f"-D{name}={_meson_word(value)}" for name, value in self.settings.items()]
        step.run("meson", "setup", "--cross-file=cross.ini", *folders, *usual, *chosen, step.build, step.src)

    def style_build(self, step: Step, board: "Board") -> None:
        step.run("python3", step.script("ninja.py"))

    def style_install(self, step: Step, board: "Board") -> None:
        step.run("meson", "install", "--no-rebuild", f"--destdir={step.dest}")


@dataclass(frozen=True, kw_only=True)
class Kconfig(Package):
    """Software that is configured like the kernel, out of tree: a default configuration plus small fragments.

    ``fragments`` are files beside the recipe; boards add theirs. Each symbol that a fragment asks for is checked
    after ``update`` (the target that completes a configuration), and a lost one fails the build by name.
    ``flags`` gives make's variables for a board. The configuration is a stage of its own: a fragment that changes
    nothing in it rebuilds nothing.
    """

    defconfig: str
    flags: Callable[["Board"], tuple[str, ...]]
    fragments: tuple[str, ...] = ()
    update: str = "olddefconfig"

    @property
    def stages(self) -> Mapping[str, tuple[str, ...]]:
        return {"configure": ("configure",), "build": ("build", "install")}

    def command(self, step: Step, board: "Board", *words: str) -> tuple[str, ...]:
        """The make command for this package and board."""
        return ("make", "-C", step.src, f"O={step.build}", *self.flags(board), *words)

    def style_configure(self, step: Step, board: "Board") -> None:
        script = step.script("kconfig.py")
        files: list[str | Path] = [*self.fragments, *board.fragments(self.name)]
        fragments = [step.input(file) for file in files]
        step.run(*self.command(step, board, self.defconfig))
        step.run("python3", script, "apply", ".config", *fragments)
        step.run("sh", "-c", 'yes "" | "$@" >/dev/null', "sh", *self.command(step, board, self.update))
        step.run("python3", script, "check", ".config", *fragments)
        step.install(".config", "config")

    def style_build(self, step: Step, board: "Board") -> None:
        step.run("cp", "-f", f"{step.config}/config", ".config")
        step.run(*self.command(step, board))


def _meson_word(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cross_file(package: Package, step: Step, board: "Board") -> Iterator[str]:
    """What Meson wants to know of the board, as lines."""
    yield "[binaries]"
    yield f"c = '{board.cc}'"
    yield from (f"{name} = '{board.triple}-{name}'" for name in ("ar", "strip"))
    # Meson 1.3 took to the second name.
    yield from (f"{name} = 'pkg-config'" for name in ("pkgconfig", "pkg-config"))
    yield "[built-in options]"
    yield f"c_args = {list(package.cflags)}"
    yield f"c_link_args = {list(package.ldflags(board))}"
    yield "[properties]"
    yield "needs_exe_wrapper = true"
    yield f"sys_root = '{step.sysroot}'"
    yield f"pkg_config_libdir = '{step.sysroot}/usr/lib/pkgconfig'"
    yield "[host_machine]"
    yield "system = 'linux'"
    yield from (f"{name} = '{board.arch.name}'" for name in ("cpu_family", "cpu"))
    yield "endian = 'little'"


_check_license = cache(canonicalize_license_expression)

_STRINGS = 'a tuple of strings, such as ("name",)'
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("name", "version", "license", "summary"), (lambda v: isinstance(v, str), "a string")),
    **dict.fromkeys(
        ("tools", "libs", "runtime", "args", "fragments", "license_files", "dracut"),
        (lambda v: _all(tuple, v, str), _STRINGS),
    ),
    "source": (
        lambda v: v is None or isinstance(v, Git | Archive | Debian | str),
        "Git, Archive, Debian or a package's name",
    ),
    "versions": (lambda v: _all(Mapping, v, Git | Archive | Debian), "pinned sources by version"),
    "options": (lambda v: _all(Mapping, v, Option), "Options by name"),
    "modes": (lambda v: _all(Mapping, v, int), "modes by path, such as 0o755"),
    "capabilities": (
        lambda v: _all(Mapping, v, tuple) and all(_all(tuple, names, str) for names in v.values()),
        'names by path, such as {"usr/bin/ping": ("cap_net_raw",)}',
    ),
    "users": (lambda v: _all(tuple, v, User), "a tuple of Users"),
    "settings": (lambda v: _all(Mapping, v, bool | int | str), "true, false, numbers or strings by name"),
    **dict.fromkeys(("libc", "shared", "copied"), (lambda v: isinstance(v, bool), "True or False")),
}


def _all(outer: type[Any], value: Any, inner: Any) -> bool:
    values = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, outer) and all(isinstance(item, inner) for item in values)

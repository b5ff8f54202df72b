"""What a purpose, such as containers, needs of a kernel, and whether a configuration has it.

A purpose is a file ``board/common/kconfig/NAME.toml``: a table of what is required and one of what is optional, with
the symbols as keys and what they are for as values.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError, nearest

_KEYS = ("include", "required", "optional")
_SYMBOL = re.compile(r"([A-Z0-9]\w*)(?:=(\w+))?")


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A symbol as a need writes it: ``VETH`` must be on, ``LSM=yama`` be that value or have it in its list."""

    name: str
    value: str = ""

    def given(self, symbols: Mapping[str, str], *, modules: bool = True) -> bool:
        """Whether a configuration or fragment has it; ``modules`` says whether what is a module can be loaded."""
        found = symbols.get(self.name, "n")
        if self.value:
            return self.value in found.strip('"').split(",")
        return found != "n" and (found != "m" or modules)

    def line(self, symbols: Mapping[str, str]) -> str:
        """What a fragment says to have it, where ``symbols`` are said already."""
        found = symbols.get(self.name, "")
        if self.value == "n":
            return f"# {self.name} is not set"
        if found.startswith('"'):
            return f'{self.name}="{",".join([*filter(None, found.strip(chr(34)).split(",")), self.value])}"'
        return f"{self.name}={self.value or 'y'}"


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that a purpose needs for a ``reason``; any of ``symbols`` gives it, the first one is the usual."""

    symbols: tuple[Symbol, ...]
    reason: str
    required: bool

    def met(self, config: Mapping[str, str], *, modules: bool) -> bool:
        return any(symbol.given(config, modules=modules) for symbol in self.symbols)

    def __str__(self) -> str:
        return " or ".join(symbol.name + f"={symbol.value}" * bool(symbol.value) for symbol in self.symbols)


def purposes(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "board/common/kconfig").glob("*.toml"))


def load(root: Path, purpose: str) -> list[Need]:
    """What a purpose needs, with what those that it includes need. Raises KilnError for what is no such file."""
    found: dict[str, Need] = {}
    for need in _read(root, purpose, where="purpose"):
        if str(need) not in found or need.required:
            found[str(need)] = need
    return list(found.values())


def _read(root: Path, purpose: str, *, where: str) -> Iterator[Need]:
    if purpose not in purposes(root):
        message = f"nothing says what {purpose!r} needs of a kernel"
        raise KilnError(message, where=where, hint=nearest(purpose, purposes(root)))
    file = f"board/common/kconfig/{purpose}.toml"
    try:
        table = tomllib.loads((root / file).read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KilnError(str(error), where=file) from error
    for key in table:
        if key not in _KEYS:
            raise KilnError(f"unknown key {key!r}", where=file, hint=nearest(key, _KEYS))
    for name in table.get("include", []):
        yield from _read(root, name, where=file)
    for kind in ("required", "optional"):
        for text, reason in table.get(kind, {}).items():
            matches = [_SYMBOL.fullmatch(word) for word in text.split(" or ")]
            symbols = tuple(Symbol(name=f"CONFIG_{match[1]}", value=match[2] or "") for match in matches if match)
            if len(symbols) < len(matches) or not isinstance(reason, str):
                hint = 'such as "VETH" = "what for", "LSM=yama" = "...", "IP_VS or NFT_NAT" = "..."'
                raise KilnError(f"{text!r} is no need", where=f"{file}, {kind}", hint=hint)
            yield Need(symbols=symbols, reason=reason, required=kind == "required")

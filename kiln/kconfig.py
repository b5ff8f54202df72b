"""Kconfig fragments: laid over a ``.config``, checked against the outcome, and taken as the difference of two.

Runs by itself inside the sandbox too (``kconfig.py apply|check CONFIG FRAGMENT...``), so it needs nothing but Python.
"""

import os
import re
import sys
from collections.abc import Iterable

_LINE = re.compile(r"(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)")


def parse(text: str) -> dict[str, str]:
    """The symbols that a configuration sets; one that ``is not set`` has the value ``n``."""
    symbols = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            symbols[match[1] or match[3]] = match[2] if match[1] else "n"
    return symbols


def render(symbols: dict[str, str]) -> str:
    """A configuration's text."""
    lines = [f"# {name} is not set" if value == "n" else f"{name}={value}" for name, value in symbols.items()]
    return "".join(line + "\n" for line in lines)


def difference(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """What must be asked for to turn the outcome ``old`` into ``new``."""
    return {name: new.get(name, "n") for name in sorted(old | new) if old.get(name, "n") != new.get(name, "n")}


def lost(config: dict[str, str], fragments: Iterable[tuple[str, dict[str, str]]]) -> list[str]:
    """A line for each symbol that was asked for and has another value in the outcome; a later fragment wins.

    What may be a module may be built in as well, as everything is in a kernel without modules.
    """
    asked: dict[str, tuple[str, str]] = {}
    for file, symbols in fragments:
        asked |= {name: (value, file) for name, value in symbols.items()}
    return [
        f"{file} asks for {name}={value}, the outcome is {config.get(name, 'n')}"
        for name, (value, file) in asked.items()
        if config.get(name, "n") not in ({"m", "y"} if value == "m" else {value})
    ]


def _main(verb: str, target: str, *files: str) -> int:
    fragments = [(os.path.basename(file), parse(_read(file))) for file in files]
    config = parse(_read(target))
    if verb == "apply":
        for _, symbols in fragments:
            config |= symbols
        with open(target, "w") as out:
            out.write(render(config))
        return 0
    problems = lost(config, fragments)
    for line in problems:
        print(f"kconfig: {line}")
    if problems:
        print("kconfig: a symbol is lost when it does not exist in this version, or something it depends on is not set")
    return 1 if problems else 0


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

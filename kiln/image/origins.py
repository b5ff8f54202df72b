"""Where the files of an initramfs come from: the package, and the module of dracut that asked for them."""

from collections.abc import Iterable, Mapping

from kiln.initramfs.links import Links
from kiln.initramfs.verify import driver

# What no single module brought.
SEVERAL = "several modules"
ITEMS = "install_items"
DRIVERS = "add_drivers"
DRACUT = "dracut itself"
EARLY = "early, by the board"


def packages(links: Links, paths: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """The package of each file: the one that has it by that path, or else by that content elsewhere."""
    files = links.view.matching(".*")
    return {path: digests.get(file.digest) or paths.get(path, DRACUT) for path, file in files}


def modules(links: Links, seen: Mapping[str, str], items: Iterable[str]) -> dict[str, str]:
    """The module of each file: the one after which it was ``seen`` first, or of a library, whose programs need it.

    ``items`` are the names of ``install_items``, which dracut copies before all modules.
    """
    view = links.view
    needed = {path: links.all_needed(path) for path in links.programs}
    libraries = {library for found in needed.values() for library in found}
    named = {view.find(word if "/" in word else f"usr/bin/{word}") for word in items}
    brought = {path: ITEMS if path in named else module for path, module in seen.items()}
    users: dict[str, set[str]] = {}
    for path in brought.keys() & needed.keys() - libraries:
        for library in needed[path]:
            users.setdefault(library, set()).add(brought[path])
    for library, found in users.items():
        brought[library] = min(found) if len(found) == 1 else SEVERAL
    rest = {path: DRIVERS if driver(path) else DRACUT for path, _ in view.matching(".*")}
    return {path: brought.get(path, other) for path, other in rest.items()}


def first_seen(lines: Iterable[str]) -> dict[str, str]:
    """The module of each path, from lines that name a module and what was there after it."""
    found: dict[str, str] = {}
    for line in lines:
        module, _, path = line.partition(" ")
        found.setdefault(path, module)
    return found

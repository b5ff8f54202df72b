"""ext4 file systems, made by mke2fs and debugfs: no mount, no root, the same bytes on every machine."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kiln.errors import KilnError
from kiln.image.manifest import Manifest, Node
from kiln.sandbox import Mount, Sandbox
from kiln.store import EPOCH

# Without a size given, a quarter of what the content takes is left free, and 4 MiB at the least.
HEAD_ROOM = 1 / 4
LEAST_FREE = 4 << 20

_MIB = 1 << 20
_BLOCK = 4096
_INODE = 256
_BYTES_PER_INODE = 16384
# Inodes that mke2fs keeps for itself, and some for files that are made later.
_OTHER_INODES = 11 + 245
# A block of directory entries, less its checksum and the longest entry, which may not fit any more.
_ENTRIES_BLOCK = _BLOCK - 12 - 264
_LONGEST_INLINE_LINK = 59
_LONGEST_LABEL = 16
_DEVICES = {"char": "c", "block": "b", "fifo": "p"}


def write(
    manifest: Manifest, path: Path, *, sandbox: Sandbox, scratch: Path, size: int | None, label: str, uuid: str
) -> None:
    """Write the manifest as a file system of ``size`` bytes, or of as much as it needs and some head room.

    Raises KilnError where ``size`` is too small, with how much is missing, and for names that mke2fs cannot take.
    """
    if len(label.encode()) > _LONGEST_LABEL:
        raise KilnError(f"label {label!r} is longer than {_LONGEST_LABEL} bytes", where=path.name)
    for node in manifest.nodes:
        if "\n" in node.path:
            raise KilnError(f"{node.path!r} has a line break in its name", where=node.package, hint="rename it")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        mounts = (
            Mount(source=Path(folder), target="/work", writable=True),
            Mount(source=path.parent, target="/dest", writable=True),
        )
        env = {**sandbox.env, "E2FSPROGS_FAKE_TIME": str(EPOCH)}
        volume = _Volume(
            path=path,
            sandbox=replace(sandbox, mounts=mounts, env=env, cwd="/work"),
            names=("-L", label, "-U", uuid),
            hash_seed=uuid,
            inodes=len(manifest.nodes) + _OTHER_INODES,
        )
        content = sum(map(_blocks, manifest.nodes), _entry_blocks(manifest)) * _BLOCK
        if size is None:
            size = volume.enough(content + max(LEAST_FREE, int(content * HEAD_ROOM)))
        else:
            least = volume.enough(content, size)
            if least > size:
                raise KilnError(
                    f"{size} bytes are too few for its content: {least - size} are missing",
                    where=path.name,
                    hint=f"set its size to {_round_up(least) // _MIB} MiB or more",
                )
        tree = Path(folder, "tree")
        tree.mkdir()
        for node in manifest.nodes:
            _stage(node, tree / node.path)
        volume.format(size, "-d", "tree")
        volume.edit(_corrections(manifest), log=Path(folder, "debugfs.log"))


@dataclass(frozen=True, kw_only=True)
class _Volume:
    """A file system that is yet to get its size and content."""

    path: Path
    sandbox: Sandbox
    names: tuple[str, ...]
    hash_seed: str
    inodes: int

    @property
    def image(self) -> str:
        return f"/dest/{self.path.name}"

    def format(self, size: int, *source: str) -> None:
        self.path.unlink(missing_ok=True)
        extended = "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard,no_copy_xattrs"
        # fmt: off
        self.sandbox.run([
            "mke2fs", "-q", "-t", "ext4", "-b", str(_BLOCK), "-I", str(_INODE), "-m", "0", *self.names,
            "-N", str(max(self.inodes, size // _BYTES_PER_INODE)), "-E", f"hash_seed={self.hash_seed},{extended}",
            *source, self.image, str(size // _BLOCK),
        ])
        # fmt: on

    def enough(self, wanted: int, size: int = 0) -> int:
        """The first size from ``size`` on that leaves ``wanted`` bytes to the content."""
        least = wanted + self.inodes * _INODE + _MIB
        if size < least:
            size = _round_up(least)
        # What mke2fs takes for itself leaps (journal, groups): ask it, do not guess.
        while (free := self._free(size)) < wanted:
            size = _round_up(size + wanted - free)
        return size

    def _free(self, size: int) -> int:
        self.format(size)
        found = re.search(rb"^Free blocks: +(\d+)", self.sandbox.run(["dumpe2fs", "-h", self.image]), re.MULTILINE)
        assert found
        return int(found[1]) * _BLOCK

    def edit(self, commands: Iterator[str], *, log: Path) -> None:
        script = "".join(f"{command}\n" for command in commands).encode()
        self.sandbox.run(["debugfs", "-w", "-f", "-", self.image], input=script, log=log)
        # debugfs ends with 0 whatever happened, but says nothing of its own unless something did.
        lines = log.read_text(errors="replace").splitlines()
        problems = [line for line in lines if not line.startswith(("debugfs", "Allocated inode:"))]
        if problems:
            raise KilnError(f"debugfs: {problems[0]}", where=self.path.name)


def _round_up(size: int) -> int:
    return -(-size // _MIB) * _MIB


def _blocks(node: Node) -> int:
    if node.kind == "file":
        # A file in many pieces, since groups are not all in one, needs a block to list them.
        return -(-node.size // _BLOCK) + node.size // (256 * _MIB)
    return node.kind == "symlink" and len(node.target.encode()) > _LONGEST_INLINE_LINK


def _entry_blocks(manifest: Manifest) -> int:
    entries = {node.path: 24 for node in manifest.nodes if node.kind == "dir"} | {"": 24}
    for node in manifest.nodes:
        folder, _, name = node.path.rpartition("/")
        entries[folder] += 8 + -(-len(name.encode()) // 4) * 4
    return sum(size // _ENTRIES_BLOCK + 1 for size in entries.values())


def _stage(node: Node, place: Path) -> None:
    if node.kind == "dir":
        place.mkdir()
    elif node.kind == "symlink":
        place.symlink_to(node.target)
    elif node.kind == "file":
        place.write_bytes(node.read())


def _corrections(manifest: Manifest) -> Iterator[str]:
    """Make what mke2fs cannot copy without root, and set all that it takes from the files it copied."""
    for node in manifest.nodes:
        if node.kind in _DEVICES:
            folder, _, name = node.path.rpartition("/")
            yield f"cd {_quote(f'/{folder}')}"
            yield f"mknod {_quote(name)} {_DEVICES[node.kind]} " + " ".join(map(str, node.device or ()))
    for path, mode, uid, gid in (
        ("/", 0o40755, 0, 0),
        ("/lost+found", 0o40700, 0, 0),
        *((f"/{node.path}", node.st_mode, node.uid, node.gid) for node in manifest.nodes),
    ):
        inode = f"sif {_quote(path)}"
        yield f"{inode} mode 0{mode:o}"
        yield f"{inode} uid {uid}"
        yield f"{inode} gid {gid}"
        for time in ("atime", "ctime", "mtime", "crtime"):
            yield f"{inode} {time} @{EPOCH}"
            yield f"{inode} {time}_extra 0"


def _quote(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'

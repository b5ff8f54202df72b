"""ext4 file systems, made by mke2fs and debugfs: no mount, no root, the same bytes on every machine."""

from collections.abc import Iterator
from pathlib import Path

from kiln.errors import KilnError
from kiln.image.manifest import Manifest, Node
from kiln.process import CommandFailed
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

_MIB = 1 << 20
_BLOCK = 4096
_INODE = 256
_BLOCKS_PER_INODE = 4
# Inodes that mke2fs keeps for itself, and some for files that are made later.
_OTHER_INODES = 11 + 245
_LONGEST_ENTRY = 264
_LONGEST_INLINE_LINK = 59
_LONGEST_LABEL = 16
_DEVICES = {"char": "c", "block": "b", "fifo": "p"}


def write(
    manifest: Manifest,
    path: Path,
    *,
    sandbox: Sandbox,
    scratch: Path,
    size: int | None,
    uuid: str,
    label: str = "rootfs",
) -> None:
    """Write the manifest as a file system of ``size`` bytes, or of as much as it needs and some head room.

    ``scratch`` is an empty folder. Raises KilnError where ``size`` is too small, for a label of more than 16 bytes,
    and for names with line breaks.
    """
    if len(label.encode()) > _LONGEST_LABEL:
        hint = f"ext4 has room for {_LONGEST_LABEL} bytes"
        raise KilnError(f"the label {label!r} is too long", where=path.name, hint=hint)
    tree, log = scratch / "tree", scratch / "debugfs.log"
    tree.mkdir()
    for node in manifest.nodes:
        if "\n" in node.path:
            raise KilnError(f"{node.path!r} has a line break in its name", where=node.package, hint="rename it")
        _stage(node, tree / node.path)
        for value in node.xattrs.values():
            (scratch / value.hex()).write_bytes(value)
    path.unlink(missing_ok=True)
    mounts = [Mount(source=scratch, target="/work"), Mount(source=path.parent, target="/dest", writable=True)]
    inside = sandbox.with_mounts(mounts).with_env({"E2FSPROGS_FAKE_TIME": str(EPOCH)})
    image = f"/dest/{path.name}"
    enough = _enough(manifest)
    blocks = (size or enough) // _BLOCK
    inodes = max(len(manifest.nodes) + _OTHER_INODES, blocks // _BLOCKS_PER_INODE)
    # fmt: off
    command = [
        "mke2fs", "-q", "-t", "ext4", "-b", str(_BLOCK), "-I", str(_INODE), "-N", str(inodes), "-m", "0",
        "-L", label, "-U", uuid, "-E", f"hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,"
        "nodiscard,no_copy_xattrs", "-d", "/work/tree", image, str(blocks),
    ]
    # fmt: on
    try:
        inside.run(command)
    except CommandFailed as error:
        if size is None or size >= enough:
            raise
        lacking = -(-(enough - size) // _MIB)
        hint = f"{lacking} MiB are missing: set its size to {enough // _MIB} MiB or more"
        raise KilnError(f"{size} bytes are too few for its content: {error}", where=path.name, hint=hint) from error
    script = "".join(f"{request}\n" for request in _corrections(manifest)).encode()
    inside.run(["debugfs", "-w", "-f", "-", image], input=script, log=log)
    # debugfs ends with 0 whatever happened, but says nothing of its own unless something did.
    lines = log.read_text(errors="replace").splitlines()
    problems = [line for line in lines if not line.startswith(("debugfs", "Allocated inode:"))]
    if problems:
        raise KilnError(f"debugfs: {problems[0]}", where=path.name)


def _enough(manifest: Manifest) -> int:
    """A size in bytes that holds the manifest, and has a quarter more room, and 5 MiB for a journal and tables."""
    needed = sum(_blocks(node) * _BLOCK + _INODE + _LONGEST_ENTRY for node in manifest.nodes)
    return -(-(needed * 5 // 4 + 5 * _MIB) // _MIB) * _MIB


def _blocks(node: Node) -> int:
    if node.kind == "symlink":
        return len(node.target.encode()) > _LONGEST_INLINE_LINK
    return 1 if node.kind == "dir" else -(-node.size // _BLOCK)


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
        for name, value in node.xattrs.items():
            yield f"ea_set -f /work/{value.hex()} {_quote(f'/{node.path}')} {name}"
    of_root = [("/", 0o40755, 0, 0), ("/lost+found", 0o40700, 0, 0)]
    for path, mode, uid, gid in of_root + [(f"/{n.path}", n.st_mode, n.uid, n.gid) for n in manifest.nodes]:
        inode = f"sif {_quote(path)}"
        yield from (f"{inode} mode 0{mode:o}", f"{inode} uid {uid}", f"{inode} gid {gid}")
        for time in ("atime", "ctime", "mtime", "crtime"):
            yield from (f"{inode} {time} @{EPOCH}", f"{inode} {time}_extra 0")


def _quote(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'

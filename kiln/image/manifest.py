"""The manifest: every path of a root file system, what it is, and which package owns it."""

import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kiln import digest
from kiln.errors import KilnError, nearest

Kind = Literal["file", "dir", "symlink", "char", "block", "fifo"]

_TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
_TYPES |= {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
_PLAIN_DIR = (0o755, 0, 0)
_LONGEST_NAME = 255

# As in capabilities(7), each at the place of its number.
CAPABILITIES = (
    "cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_fsetid", "cap_kill", "cap_setgid",
    "cap_setuid", "cap_setpcap", "cap_linux_immutable", "cap_net_bind_service", "cap_net_broadcast", "cap_net_admin",
    "cap_net_raw", "cap_ipc_lock", "cap_ipc_owner", "cap_sys_module", "cap_sys_rawio", "cap_sys_chroot",
    "cap_sys_ptrace", "cap_sys_pacct", "cap_sys_admin", "cap_sys_boot", "cap_sys_nice", "cap_sys_resource",
    "cap_sys_time", "cap_sys_tty_config", "cap_mknod", "cap_lease", "cap_audit_write", "cap_audit_control",
    "cap_setfcap", "cap_mac_override", "cap_mac_admin", "cap_syslog", "cap_wake_alarm", "cap_block_suspend",
    "cap_audit_read", "cap_perfmon", "cap_bpf", "cap_checkpoint_restore",
)  # fmt: skip
_VFS_CAP_REVISION_2 = 0x02000000
_VFS_CAP_FLAGS_EFFECTIVE = 1


@dataclass(frozen=True, kw_only=True)
class Node:
    """One path, relative to the root. ``mode`` holds permission bits, ``content`` is where a file's bytes are.

    ``digest`` and ``size`` (bytes) are those of a file, ``device`` is (major, minor). ``capabilities``
    are what a program may do whoever runs it (permitted and effective), such as "cap_net_raw".
    Raises KilnError for a path that no image can hold, a link without a target, and capabilities that cannot be.
    """

    path: str
    kind: Kind
    mode: int
    package: str
    uid: int = 0
    gid: int = 0
    content: Path | bytes | None = None
    digest: str = ""
    size: int = 0
    target: str = ""
    device: tuple[int, int] | None = None
    capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.path.split("/")
        if not all(names) or "." in names or ".." in names or "\0" in self.path:
            raise KilnError(f"{self.path!r} is not a path relative to the root", where=self.package)
        try:
            f"{self.path}{self.target}".encode()
        except UnicodeEncodeError as error:
            raise KilnError(f"the name of {self.path!r} is not UTF-8", where=self.package) from error
        if any(len(name.encode()) > _LONGEST_NAME for name in names):
            raise KilnError(f"/{self.path} has a name of more than {_LONGEST_NAME} bytes", where=self.package)
        if self.kind == "symlink" and (not self.target or "\0" in self.target):
            raise KilnError(f"/{self.path} is a link to {self.target!r}, which cannot be", where=self.package)
        if self.capabilities and self.kind != "file":
            raise KilnError(f"/{self.path} is no file, and only files have capabilities", where=self.package)
        capability_value(self.capabilities)

    @property
    def st_mode(self) -> int:
        """Type and permission bits together, as in ``stat``."""
        return _TYPES[self.kind] | self.mode

    @property
    def xattrs(self) -> dict[str, bytes]:
        """The extended attributes by name."""
        return {"security.capability": capability_value(self.capabilities)} if self.capabilities else {}

    def read(self) -> bytes:
        """A file's bytes. Raises KilnError where they are no longer those of ``digest``."""
        assert self.content is not None
        try:
            data = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        except OSError as error:
            raise KilnError(f"cannot read /{self.path}: {error.strerror}", where=self.package) from error
        if hashlib.sha256(data).hexdigest() != self.digest:
            where = self.package if isinstance(self.content, bytes) else os.fspath(self.content)
            hint = "run the same command again"
            raise KilnError(f"/{self.path} changed while the image was made", where=where, hint=hint)
        return data

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"path": self.path, "type": self.kind, "mode": f"{self.mode:04o}"}
        value |= {"uid": self.uid, "gid": self.gid, "package": self.package}
        if self.kind == "file":
            value |= {"size": self.size, "sha256": self.digest}
        elif self.kind == "symlink":
            value["target"] = self.target
        elif self.device:
            value["device"] = list(self.device)
        if self.capabilities:
            value["capabilities"] = sorted(self.capabilities)
        return value


# A package's name and what it brings.
Layer = tuple[str, Iterable[Node]]


@dataclass(frozen=True)
class Manifest:
    """Nodes sorted by path, each path once, every parent there and a folder; the root itself is left out."""

    nodes: tuple[Node, ...]

    @staticmethod
    def merge(layers: Iterable[Layer], *, owners: Mapping[str, str] = {}) -> "Manifest":
        """One manifest of all layers; ``owners`` says which package wins a path that several bring.

        Folders may come from several layers when at most one kind of mode and owner differs from 0755 0:0.
        Parents that nobody brings are added. Raises KilnError for all other conflicts.
        """
        claims: dict[str, list[Node]] = {}
        for package, nodes in layers:
            for node in nodes:
                claims.setdefault(node.path, []).append(replace(node, package=package))
        winners = {path.strip("/"): winner for path, winner in owners.items()}
        for path in sorted(winners.keys() - claims.keys()):
            raise KilnError(f"no package brings /{path}", where="[owners]", hint="remove that line")
        chosen = {path: _settle(path, found, winners.get(path)) for path, found in sorted(claims.items())}
        for node in list(chosen.values()):
            _complete(node, chosen)
        return Manifest(tuple(node for _, node in sorted(chosen.items())))

    def to_json(self) -> list[dict[str, Any]]:
        return [node.to_json() for node in self.nodes]

    def digest(self) -> str:
        """The digest of what the image will hold, whoever owns it."""
        return digest.of_value([{**value, "package": None} for value in self.to_json()])


def file_node(path: str, data: bytes, *, package: str, mode: int = 0o644) -> Node:
    """A file of root's with the given bytes."""
    found = digest.of_bytes(data)
    return Node(path=path, kind="file", mode=mode, package=package, content=data, digest=found.hash, size=found.size)


def capability_value(names: Iterable[str]) -> bytes:
    """The value of ``security.capability`` that makes these capabilities permitted and effective.

    Raises KilnError for a name that is no capability.
    """
    bits = 0
    for name in names:
        if name not in CAPABILITIES:
            raise KilnError(f"{name!r} is no capability", hint=nearest(name, CAPABILITIES))
        bits |= 1 << CAPABILITIES.index(name)
    permitted = (bits & 0xFFFFFFFF, bits >> 32)
    return struct.pack("<5I", _VFS_CAP_REVISION_2 | _VFS_CAP_FLAGS_EFFECTIVE, permitted[0], 0, permitted[1], 0)


def tree_nodes(
    root: Path, package: str, *, modes: Mapping[str, int] = {}, capabilities: Mapping[str, tuple[str, ...]] = {}
) -> list[Node]:
    """What a folder on disk holds, with permissions of 0755 or 0644, owned by 0:0 and without capabilities.

    ``modes`` and ``capabilities`` say otherwise for single paths. Raises KilnError for one that is not there, and for
    what cannot be read or is neither a file, a folder nor a link.
    """
    try:
        nodes = {path: _node(root / path, path, package) for path in _walk(root)}
    except OSError as error:
        raise KilnError(f"cannot read {error.filename}: {error.strerror}", where=package) from error
    for path, mode in modes.items():
        node = _listed(path, nodes, package, "modes")
        nodes[node.path] = replace(node, mode=mode)
    for path, names in capabilities.items():
        node = _listed(path, nodes, package, "capabilities")
        nodes[node.path] = replace(node, capabilities=names)
    return [node for _, node in sorted(nodes.items())]


def _listed(path: str, nodes: Mapping[str, Node], package: str, field: str) -> Node:
    node = nodes.get(path.strip("/"))
    if not node or node.kind == "symlink":
        problem = f"is a link and has no {field} of its own" if node else "is not there"
        raise KilnError(f"/{path.strip('/')} {problem}", where=package, hint=f"correct the {field} that name it")
    return node


def _settle(path: str, claims: list[Node], winner: str | None) -> Node:
    if winner is not None:
        won = [node for node in claims if node.package == winner]
        if not won:
            bringers = ", ".join(sorted({node.package for node in claims}))
            raise KilnError(f"{winner} does not bring /{path}", where="[owners]", hint=f"it comes from: {bringers}")
        claims = won
    if len(claims) == 1:
        return claims[0]
    packages = " and ".join(sorted({node.package for node in claims}))
    remedy = f'say who wins in the [owners] table of the board: "{path}" = "{claims[-1].package}"'
    if any(node.kind != "dir" for node in claims):
        raise KilnError(f"/{path} comes from {packages}; only one can own it", hint=remedy)
    special = {(node.mode, node.uid, node.gid): node for node in reversed(claims)}
    special.pop(_PLAIN_DIR, None)
    if len(special) > 1:
        values = ", ".join(f"{node.mode:04o} {node.uid}:{node.gid} ({node.package})" for node in special.values())
        raise KilnError(f"/{path} comes from {packages} with different modes or owners: {values}", hint=remedy)
    return next(iter(special.values()), claims[0])


def _complete(node: Node, chosen: dict[str, Node]) -> None:
    path = node.path
    while "/" in path:
        path = path.rpartition("/")[0]
        parent = chosen.setdefault(path, Node(path=path, kind="dir", mode=0o755, package=node.package))
        if parent.kind != "dir":
            what = "a link" if parent.kind == "symlink" else f"a {parent.kind}"
            hint = f"move one of the two, or let {node.package} install through the real folder"
            raise KilnError(
                f"{node.package} brings /{node.path}, but /{path} is {what} from {parent.package}", hint=hint
            )


def _walk(root: Path, folder: str = "") -> Iterator[str]:
    with os.scandir(root / folder) as entries:
        for entry in entries:
            yield f"{folder}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, f"{folder}{entry.name}/")


def _node(place: Path, path: str, package: str) -> Node:
    mode = place.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Node(path=path, kind="symlink", mode=0o777, package=package, target=os.readlink(place))
    if stat.S_ISDIR(mode):
        return Node(path=path, kind="dir", mode=0o755, package=package)
    if not stat.S_ISREG(mode):
        raise KilnError(f"/{path} is neither a file, a folder nor a link", where=package)
    found = digest.of_file(place)
    mode = 0o755 if mode & 0o111 else 0o644
    return Node(path=path, kind="file", mode=mode, package=package, content=place, digest=found.hash, size=found.size)

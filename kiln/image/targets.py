"""The board's images as targets: each follows from the manifest, the writers' own code and pinned tools."""

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.board import Board
from kiln.errors import KilnError
from kiln.image import cpio, disk, ext4, fat, tar
from kiln.image.accounts import account_nodes
from kiln.image.compress import compress
from kiln.image.manifest import Layer, Manifest, Node, file_node, tree_nodes
from kiln.sandbox import Mount
from kiln.stage import Stage
from kiln.store import Entry, Store, Work
from kiln.target import Target
from kiln.tools import Tools

# The boot partition in bytes: room for a few kernels, and FAT16 rather than FAT12.
_BOOT_SIZE = 16 << 20
_MENU = f"{fat.SYSLINUX_FOLDER}/syslinux.cfg"
_FAT16_LBA = 0x0E
_LINUX = 0x83


@cache
def _writers() -> str:
    """The digest of the code that writes images, so that a better writer makes new ones."""
    return digest.of_value(
        {path.name: digest.of_file(path).hash for path in sorted(Path(__file__).parent.glob("*.py"))}
    )


class Rootfs(Target):
    """The manifest of the board's root file system."""

    def __init__(
        self, board: Board, stages: Sequence[Stage], modes: Mapping[str, dict[str, int]], store: Store
    ) -> None:
        super().__init__(store)
        self.id = "rootfs"
        self.name = f"{board.name}-rootfs"
        self.version = "1"
        self.doc = "the manifest of the root file system: every path, and the package that owns it"
        self.deps = tuple(stages)
        self.board = board
        self._stages = stages
        self._modes = modes

    def inputs(self) -> dict[str, Any] | None:
        entries = {stage.package: stage.entry() for stage in self._stages}
        if not all(entries.values()):
            return None
        return {
            "name": self.name,
            "version": self.version,
            "writers": _writers(),
            "packages": {name: entry.digest for name, entry in entries.items() if entry},
            "modes": self._modes,
            "users": [repr(user) for user in self.board.users],
            "hostname": self.board.hostname,
            "owners": dict(self.board.owners),
            "overlays": [_overlay_digest(path) for path in self.board.overlays],
        }

    def manifest(self) -> Manifest:
        layers: list[Layer] = [
            (stage.package, tree_nodes(stage.built().root, stage.package, modes=self._modes.get(stage.package, {})))
            for stage in self._stages
        ]
        layers.append(("users", account_nodes(self.board.users)))
        layers.append(("board", self._board_nodes()))
        layers += [(f"overlay:{path.parent.name}", tree_nodes(path, "overlay")) for path in self.board.overlays]
        return Manifest.merge(layers, owners=self.board.owners)

    def _board_nodes(self) -> list[Node]:
        hostname = f"{self.board.hostname}\n".encode()
        # The kernel opens the console of an initramfs before anything could mount /dev.
        console = Node(path="dev/console", kind="char", mode=0o600, device=(5, 1), package="board")
        return [file_node("etc/hostname", hostname, package="board"), console]

    def fill(self, work: Work) -> dict[str, Any]:
        manifest = self.manifest()
        (work.root / "manifest.json").write_bytes(_json_lines(manifest.to_json()))
        return {"content": manifest.digest()}


class Artifact(Target):
    """A file, or a few, that follow from the root file system and pinned tools."""

    def __init__(self, rootfs: Rootfs, tools: Tools, kind: str, doc: str) -> None:
        super().__init__(rootfs.store)
        self.id = kind
        self.name = f"{rootfs.board.name}-{kind}"
        self.version = "1"
        self.doc = doc
        self.deps = (rootfs, tools["sandbox"], tools["image"])
        self.rootfs = rootfs
        self.tools = tools

    def inputs(self) -> dict[str, Any] | None:
        rootfs = self.rootfs.entry()
        return self._made_from({"manifest": rootfs.notes["content"]}) if rootfs else None

    def _made_from(self, what: dict[str, Any]) -> dict[str, Any]:
        tools = self.tools["image"].key()
        return {"name": self.name, "version": self.version, "writers": _writers(), "tools": tools} | what


class Cpio(Artifact):
    def __init__(self, rootfs: Rootfs, tools: Tools) -> None:
        super().__init__(rootfs, tools, "cpio", "the root file system as an initramfs")

    def fill(self, work: Work) -> dict[str, Any]:
        plain = work.folder("plain") / "rootfs.cpio"
        cpio.write(self.rootfs.manifest(), plain)
        compress(plain, work.root / "rootfs.cpio.zst", self.tools.sandbox("image"))
        return {}


class Tar(Artifact):
    def __init__(self, rootfs: Rootfs, tools: Tools) -> None:
        super().__init__(rootfs, tools, "tar", "the root file system as an archive")

    def fill(self, work: Work) -> dict[str, Any]:
        plain = work.folder("plain") / "rootfs.tar"
        tar.write(self.rootfs.manifest(), plain)
        compress(plain, work.root / "rootfs.tar.zst", self.tools.sandbox("image"))
        return {}


class Ext4(Artifact):
    def __init__(self, rootfs: Rootfs, tools: Tools) -> None:
        super().__init__(rootfs, tools, "ext4", "the root file system as an ext4 image")

    def inputs(self) -> dict[str, Any] | None:
        inputs = super().inputs()
        return None if inputs is None else inputs | {"size": self.rootfs.board.root_size}

    def fill(self, work: Work) -> dict[str, Any]:
        content = self.rootfs.built().notes["content"]
        ext4.write(
            self.rootfs.manifest(),
            work.root / "rootfs.ext4",
            sandbox=self.tools.sandbox("image"),
            scratch=work.folder("scratch"),
            size=self.rootfs.board.root_size,
            label="rootfs",
            uuid=str(uuid.UUID(hex=digest.of_value(["ext4", content])[:32], version=4)),
        )
        return {}


class Disk(Artifact):
    """A disk that a BIOS boots: syslinux on a FAT partition, and the ext4 root beside it."""

    def __init__(self, root: Ext4, kernel: Stage, tools: Tools) -> None:
        super().__init__(root.rootfs, tools, "disk", "a disk that boots: syslinux, the kernel and the ext4 root")
        self.deps = (*self.deps, root, kernel)
        self._root = root
        self._kernel = kernel
        self._board = root.rootfs.board

    def inputs(self) -> dict[str, Any] | None:
        root, kernel = self._root.entry(), self._kernel.entry()
        if not root or not kernel:
            return None
        return self._made_from({"ext4": root.digest, "kernel": kernel.digest, "menu": self._template()})

    def fill(self, work: Work) -> dict[str, Any]:
        root = self._root.built().root / "rootfs.ext4"
        signature = int(digest.of_value([self._root.built().digest, self._kernel.built().digest])[:8], 16) or 1
        image = kernel_image(self._kernel.built())
        files: dict[str, Path | bytes] = {
            image.name: image,
            _MENU: self.menu(root=f"PARTUUID={disk.partuuid(signature, 2)}").encode(),
        }
        sandbox = self.tools.sandbox("image")
        boot = work.folder("scratch") / "boot.fat"
        scratch = work.folder("fat")
        fat.write(
            files,
            boot,
            sandbox=sandbox,
            scratch=scratch,
            size=_BOOT_SIZE,
            label="BOOT",
            serial=signature,
            hidden_sectors=disk.ALIGNMENT,
        )
        fat.syslinux(boot, sandbox=sandbox)
        parts = [
            disk.Partition(content=boot, kind=_FAT16_LBA, bootable=True),
            disk.Partition(content=root, kind=_LINUX),
        ]
        code = (sandbox.root / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()
        disk.write_mbr(work.root / "disk.img", parts, signature=signature, boot_code=code)
        return {"root": disk.partuuid(signature, 2)}

    def copy_with(self, append: str, folder: Path) -> Path:
        """A copy of the disk in ``folder`` whose kernels get ``append`` as well."""
        copy = folder / "disk.img"
        shutil.copyfile(self.built().root / "disk.img", copy)
        (folder / "menu").write_text(self.menu(root=f"PARTUUID={self.built().notes['root']}", append=append))
        mount = Mount(source=folder, target="/work", writable=True)
        offset = disk.ALIGNMENT * disk.SECTOR
        words = ["mcopy", "-o", "-i", f"/work/disk.img@@{offset}", "/work/menu", f"::/{_MENU}"]
        self.tools.sandbox("image").with_mounts([mount]).run(words)
        return copy

    def menu(self, *, root: str, append: str = "") -> str:
        """The boot menu, with the board's command line and ``append`` in it."""
        cmdline = " ".join(word for word in (self._board.cmdline, f"root={root} rootwait", append) if word)
        values = {"@BOARD@": self._board.name, "@CMDLINE@": cmdline}
        text = self._template()
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def _template(self) -> str:
        own, common = self._board.files / "extlinux.conf", self._board.root / "board/common/extlinux.conf"
        file = own if own.exists() else common
        try:
            text = file.read_text()
        except OSError as error:
            raise KilnError(f"cannot read the boot menu: {error.strerror}", where=os.fspath(file)) from error
        if "@CMDLINE@" not in text:
            raise KilnError("the boot menu has no @CMDLINE@, so nothing could find its root", where=os.fspath(file))
        return text


class Image(Target):
    """All of a board's images together, with their checksums, linked into its output folder."""

    def __init__(self, rootfs: Rootfs, kernel: Stage, parts: Sequence[Artifact], output: Path) -> None:
        super().__init__(rootfs.store)
        self.id = "image"
        self.name = f"{rootfs.board.name}-image"
        self.version = "1"
        self.doc = f"bootable images of {rootfs.board.name}: kernel, cpio, ext4, tar, disk"
        self.deps = (rootfs, kernel, *parts)
        self._kernel = kernel
        self._parts = (rootfs, *parts)
        self._output = output
        self.place = f"{os.path.relpath(output)}/"

    def inputs(self) -> dict[str, Any] | None:
        entries = [target.entry() for target in (self._kernel, *self._parts)]
        digests = [entry.digest for entry in entries if entry]
        if len(digests) < len(entries):
            return None
        return {"name": self.name, "version": self.version, "writers": _writers(), "parts": digests}

    def files(self) -> dict[str, Path]:
        """The finished files by name."""
        found = {kernel_image(self._kernel.built()).name: kernel_image(self._kernel.built())}
        for part in self._parts:
            found |= {path.name: path for path in part.built().root.iterdir()}
        return dict(sorted(found.items()))

    def fill(self, work: Work) -> dict[str, Any]:
        lines = [f"{digest.of_file(path).hash}  {name}\n" for name, path in self.files().items()]
        (work.root / "SHA256SUMS").write_text("".join(lines))
        return {}

    def links(self) -> dict[Path, str]:
        """The links of the output folder and where they lead."""
        files = self.files() | {"SHA256SUMS": self.built().root / "SHA256SUMS"}
        return {self._output / name: os.path.relpath(path, self._output) for name, path in files.items()}

    def entry(self) -> Entry | None:
        entry = super().entry()
        return entry if entry and self._linked() else None

    def build(self) -> None:
        super().build()
        self._output.mkdir(parents=True, exist_ok=True)
        for path, target in self.links().items():
            fresh = path.with_name(f".{path.name}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            fresh.rename(path)

    def built(self) -> Entry:
        entry = super().entry()
        assert entry, f"{self.id} was not built"
        return entry

    def _linked(self) -> bool:
        return all(path.is_symlink() and os.readlink(path) == target for path, target in self.links().items())


def kernel_image(kernel: Entry) -> Path:
    """The file that a boot loader starts."""
    found = [path for path in (kernel.root / "boot").iterdir() if path.name not in ("System.map", "config")]
    if len(found) != 1:
        raise KilnError(f"expected one kernel in boot/, found {len(found)}", where=os.fspath(kernel.root))
    return found[0]


def _overlay_digest(path: Path) -> str:
    try:
        return digest.of_tree(path).hash
    except (OSError, ValueError) as error:
        raise KilnError(
            str(error), where=os.fspath(path), hint="an overlay holds readable files, folders and links"
        ) from error


def _json_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"[\n" + b",\n".join(digest.canonical(row) for row in rows) + b"\n]\n"

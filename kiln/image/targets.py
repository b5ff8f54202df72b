"""The board's images as targets: each follows from the manifest, the writers' own code and pinned tools."""

import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.board import Board
from kiln.errors import KilnError
from kiln.image import cpio, disk, ext4, fat, secrets, services, tar
from kiln.image.accounts import account_nodes
from kiln.image.manifest import Layer, Manifest, Node, file_node, tree_nodes
from kiln.locks import closing, take
from kiln.recipe.package import Package
from kiln.recipe.step import LICENSES
from kiln.sandbox import Mount
from kiln.stage import Stage
from kiln.store import Entry, Store, Work
from kiln.target import UNKNOWN, Target, closure, key
from kiln.tools import Tools

_FAT16_LBA = 0x0E
_LINUX = 0x83
_ARCHIVES = {"cpio": (cpio.write, "an initramfs"), "tar": (tar.write, "an archive")}


@cache
def _writers() -> str:
    """The digest of the code that writes images, so that a better writer makes new ones."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    return digest.of_value({path.name: digest.of_file(path).hash for path in paths})


class Part(Target):
    """Something of a board's image, made by this folder's code."""

    version = "1"

    def __init__(self, kind: str, doc: str, board: Board, store: Store, deps: Sequence[Target]) -> None:
        super().__init__(store, deps)
        self.id = kind
        self.name = f"{board.name}-{kind}"
        self.doc = doc
        self.board = board

    def made_from(self, **inputs: Any) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "writers": _writers()} | inputs


class Rootfs(Part):
    """The manifest of the board's root file system."""

    def __init__(self, board: Board, packages: Sequence[Package], stages: Sequence[Stage], store: Store) -> None:
        doc = "the manifest of the root file system: every path, and the package that owns it"
        super().__init__("rootfs", doc, board, store, stages)
        self._stages = stages
        self._modes = {package.name: dict(package.modes) for package in packages}
        self._system = [user for package in packages for user in package.users]
        self._manifest: Manifest | None = None
        self._merging = threading.Lock()

    def inputs(self) -> dict[str, Any]:
        return self.made_from(
            packages={stage.package: stage.content() for stage in self._stages},
            modes=self._modes,
            users=[repr(user) for user in (*self.board.users, *self._system)],
            groups=dict(self.board.groups),
            private_keys=list(self.board.private_keys),
            hostname=self.board.hostname,
            owners=dict(self.board.owners),
            overlays=self._overlays(),
        )

    def _overlays(self) -> dict[str, str]:
        """What each file of the overlays is, by its place below ``board/``."""
        found: dict[str, str] = {}
        for overlay in self.board.overlays:
            place = f"{overlay.parent.name}/{overlay.name}"
            found |= {f"{place}/{path}": word for path, word in _read_overlay(overlay).items()}
        return found

    def manifest(self) -> Manifest:
        """What the root file system holds, as it was when first asked for."""
        with self._merging:
            self._manifest = self._manifest or self._merge()
            return self._manifest

    def _merge(self) -> Manifest:
        packages: list[Layer] = [
            (stage.package, tree_nodes(stage.sound().root, stage.package, modes=self._modes[stage.package]))
            for stage in self._stages
        ]
        overlays: list[Layer] = []
        for path in self.board.overlays:
            name = f"overlay:{path.parent.name}"
            overlays.append((name, tree_nodes(path, name)))
        accounts = account_nodes(self.board.users, system=self._system, groups=self.board.groups)
        hostname = file_node("etc/hostname", f"{self.board.hostname}\n".encode(), package="board")
        # The kernel opens the console of an initramfs before anything could mount /dev.
        console = Node(path="dev/console", kind="char", mode=0o600, device=(5, 1), package="board")
        board = [hostname, console, *services.inittab(packages, overlays)]
        layers = [*packages, ("users", accounts), ("board", board), *overlays]
        shipped = [(name, [node for node in nodes if _is_shipped(node)]) for name, nodes in layers]
        # What a board lays over its packages, it means to win.
        own = {name for name, _ in overlays}
        owners = {node.path: name for name, nodes in shipped if name in own for node in nodes if node.kind != "dir"}
        manifest = Manifest.merge(shipped, owners=owners | dict(self.board.owners))
        return Manifest(tuple(secrets.guarded(manifest.nodes, self.board.private_keys)))

    def fill(self, work: Work) -> dict[str, Any]:
        inputs, manifest = self.inputs(), self.manifest()
        if inputs != self.inputs():
            raise KilnError("an overlay was edited meanwhile", where=self.id, hint="run the same command again")
        rows = b",\n".join(digest.canonical(row) for row in manifest.to_json())
        (work.root / "manifest.json").write_bytes(b"[\n" + rows + b"\n]\n")
        return {"content": manifest.digest()}


def _is_shipped(node: Node) -> bool:
    """Whether something is for the image, not only for those who make it."""
    return not services.is_fragment(node) and not f"{node.path}/".startswith(f"{LICENSES}/")


class Artifact(Part):
    """A file that follows from the root file system and pinned tools."""

    def __init__(self, kind: str, doc: str, rootfs: Rootfs, tools: Tools, *deps: Target) -> None:
        super().__init__(
            kind, doc, rootfs.board, tools["image"].store, (rootfs, tools["sandbox"], tools["image"], *deps)
        )
        self.rootfs = rootfs
        self.tools = tools

    def made_from(self, **inputs: Any) -> dict[str, Any]:
        return super().made_from(tools=self.tools["image"].key(), **inputs)

    def inputs(self) -> dict[str, Any]:
        rootfs = self.rootfs.entry()
        return self.made_from(manifest=rootfs.notes["content"] if rootfs else UNKNOWN)

    def manifest(self) -> Manifest:
        manifest = self.rootfs.manifest()
        if manifest.digest() != self.rootfs.built().notes["content"]:
            raise KilnError("an overlay was edited meanwhile", where=self.id, hint="run the same command again")
        return manifest


class Archive(Artifact):
    """The root file system as a compressed "cpio" or "tar" archive."""

    def __init__(self, kind: str, rootfs: Rootfs, tools: Tools) -> None:
        self._write, what = _ARCHIVES[kind]
        super().__init__(kind, f"the root file system as {what}", rootfs, tools)

    def fill(self, work: Work) -> dict[str, Any]:
        plain = work.folder("plain") / f"rootfs.{self.id}"
        self._write(self.manifest(), plain)
        mounts = [Mount(source=plain.parent, target="/inputs"), Mount(source=work.root, target="/dest", writable=True)]
        # One thread, since the bytes depend on how many there are. A window that reaches from one program to the
        # next, since they have libraries in common: a fifth more than -19 makes of it, in a tenth of the time.
        words = ["zstd", "-10", "--long=24", "-T1", "-q", f"/inputs/{plain.name}", "-o", f"/dest/{plain.name}.zst"]
        self.tools.sandbox("image").with_mounts(mounts).run(words)
        return {}


class Ext4(Artifact):
    def __init__(self, rootfs: Rootfs, tools: Tools) -> None:
        super().__init__("ext4", "the root file system as an ext4 image", rootfs, tools)

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {"size": self.board.root_size}

    def fill(self, work: Work) -> dict[str, Any]:
        identity = digest.of_value(["ext4", self.rootfs.built().notes["content"]])
        name = str(uuid.UUID(hex=identity[:32], version=4))
        manifest, sandbox, scratch = self.manifest(), self.tools.sandbox("image"), work.folder("scratch")
        place, size = work.root / "rootfs.ext4", self.board.root_size
        ext4.write(manifest, place, sandbox=sandbox, scratch=scratch, size=size, uuid=name)
        return {}


class Disk(Artifact):
    """A disk that a BIOS boots: syslinux on a FAT partition, and the ext4 root beside it."""

    def __init__(self, root: Ext4, kernel: Stage, tools: Tools) -> None:
        doc = "a disk that boots: syslinux, the kernel and the ext4 root"
        super().__init__("disk", doc, root.rootfs, tools, root, kernel)
        self._root = root
        self._kernel = kernel

    def inputs(self) -> dict[str, Any]:
        return self.made_from(ext4=self._root.content(), kernel=self._kernel.content(), menu=self._menu(""))

    def fill(self, work: Work) -> dict[str, Any]:
        root, kernel = self._root.sound(), self._kernel.sound()
        signature = int(digest.of_value([root.digest, kernel.digest])[:8], 16) or 1
        partuuid = disk.partuuid(signature, 2)
        sandbox = self.tools.sandbox("image")
        boot = work.folder("scratch") / "boot.fat"
        image, menu = kernel_image(kernel), self._menu(partuuid)
        fat.write(image, menu, boot, sandbox=sandbox, serial=signature, hidden_sectors=disk.ALIGNMENT)
        parts = [disk.Partition(content=boot, kind=_FAT16_LBA, bootable=True)]
        parts.append(disk.Partition(content=root.root / "rootfs.ext4", kind=_LINUX))
        code = (sandbox.root / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()
        disk.write_mbr(work.root / "disk.img", parts, signature=signature, boot_code=code)
        return {"root": partuuid}

    def copy_with(self, append: str, folder: Path) -> Path:
        """A copy of the disk in ``folder`` whose kernels get ``append`` as well."""
        copy = folder / "disk.img"
        shutil.copyfile(self.built().root / "disk.img", copy)
        menu = self._menu(self.built().notes["root"], append)
        words = ["mcopy", "-o", "-i", f"/work/disk.img@@{disk.ALIGNMENT * disk.SECTOR}", "-", f"::/{fat.MENU}"]
        mount = Mount(source=folder, target="/work", writable=True)
        self.tools.sandbox("image").with_mounts([mount]).run(words, input=menu.encode())
        return copy

    def _menu(self, partuuid: str, append: str = "") -> str:
        """The boot menu, with the board's command line and ``append`` in it."""
        words = (self.board.cmdline, f"root=PARTUUID={partuuid} rootwait", append)
        text = self._template().replace("@BOARD@", self.board.name)
        return text.replace("@CMDLINE@", " ".join(word for word in words if word))

    def _template(self) -> str:
        own, common = self.board.files / "extlinux.conf", self.board.root / "board/common/extlinux.conf"
        file = own if own.exists() else common
        try:
            text = file.read_text()
        except OSError as error:
            raise KilnError(f"cannot read the boot menu: {error.strerror}", where=os.fspath(file)) from error
        if "@CMDLINE@" not in text:
            raise KilnError("the boot menu has no @CMDLINE@, so nothing could find its root", where=os.fspath(file))
        return text


class Image(Part):
    """All of a board's images together, with their checksums, linked into its output folder."""

    def __init__(
        self, rootfs: Rootfs, kernel: Stage, licenses: Part, parts: Sequence[Artifact], disk: Disk | None, output: Path
    ) -> None:
        made = (*parts, disk) if disk else parts
        doc = f"bootable images of {rootfs.board.name}: {', '.join(['kernel', *(part.id for part in made)])}"
        super().__init__("image", doc, rootfs.board, rootfs.store, (rootfs, kernel, licenses, *made))
        self.disk = disk
        self._kernel = kernel
        self._parts = (rootfs, licenses, *made)
        self.output = output / (f"{self.board.name}-local" if self.local else self.board.name)
        self.place = f"{os.path.relpath(self.output)}/"

    def inputs(self) -> dict[str, Any]:
        parts = {target.id: target.content() for target in (self._kernel, *self._parts)}
        return self.made_from(parts=parts, **{"local": self._origins()} if self.local else {})

    def files(self) -> dict[str, Path]:
        """The finished files by name."""
        made = [path for part in self._parts for path in part.built().root.iterdir()]
        found = {path.name: path for path in (kernel_image(self._kernel.built()), *made)}
        return dict(sorted(found.items()))

    def fill(self, work: Work) -> dict[str, Any]:
        for target in (self._kernel, *self._parts):
            target.sound()
        lines = [f"{digest.of_file(path).hash}  {name}\n" for name, path in self.files().items()]
        (work.root / "SHA256SUMS").write_text("".join(lines))
        if self.local:
            (work.root / "LOCAL").write_text("".join(f"{line}\n" for line in self._origins()))
        return {}

    def _origins(self) -> list[str]:
        """What made this image a local one."""
        stages = [target for target in closure(self) if isinstance(target, Stage)]
        return [f"{stage.id} from {stage.origin}" for stage in stages if stage.origin]

    def _links(self, entry: Entry) -> dict[Path, str]:
        """The links of the output folder and where they lead."""
        files = self.files() | {path.name: path for path in entry.root.iterdir()}
        return {self.output / name: os.path.relpath(path, self.output) for name, path in files.items()}

    def look(self) -> Entry | None:
        entry = super().look()
        if entry and any(not path.is_symlink() or os.readlink(path) != to for path, to in self._links(entry).items()):
            self._entry = None
        return self._entry

    def build(self) -> None:
        self._remember()
        super().build()
        self.output.mkdir(parents=True, exist_ok=True)
        links = self._links(self.built())
        folder = os.open(self.output, os.O_RDONLY | os.O_CLOEXEC)
        with closing(folder):
            take(folder, fcntl.LOCK_EX, f"{self.output}, which another process writes")
            for path, target in links.items():
                fresh = path.with_name(f".{path.name}")
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(target)
                fresh.rename(path)
            for path in self.output.iterdir():
                if path.is_symlink() and path not in links:
                    path.unlink()

    def _remember(self) -> None:
        """Tell the stores what this image reaches, before it is there: a kill between the two would keep it from gc."""
        found = key(self.inputs())
        reached = {self.store: [self.store.entry_path(self.name, self.version, found).name] if found else []}
        for part in closure(*self.deps):
            entry = part.entry()
            if entry:
                reached.setdefault(part.store, []).append(entry.path.name)
        for store, names in reached.items():
            store.remember(os.fspath(self.output), names)

    def clean(self) -> bool:
        for path in self.output.glob("*"):
            if path.is_symlink():
                path.unlink()
        return super().clean()


def kernel_image(kernel: Entry) -> Path:
    """The file that a boot loader starts."""
    found = [path for path in (kernel.root / "boot").iterdir() if path.name not in ("System.map", "config")]
    if len(found) != 1:
        hint = "`doit verify` finds what was damaged, if the recipe installs one"
        raise KilnError(f"expected one kernel in boot/, found {len(found)}", where=os.fspath(kernel.root), hint=hint)
    return found[0]


def _read_overlay(path: Path) -> dict[str, str]:
    try:
        return digest.read_tree(path)[1]
    except (OSError, ValueError) as error:
        hint = "an overlay holds readable files, folders and links"
        raise KilnError(str(error), where=os.fspath(path), hint=hint) from error

"""What a root file system is shipped as: archives, file systems, container images; each a target."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.image import cpio, erofs, ext4, oci, squashfs, tar
from kiln.image.manifest import Layer, Manifest, tree_nodes
from kiln.image.output import Output
from kiln.image.targets import Part, Rootfs, console, is_shipped
from kiln.sandbox import Mount, Sandbox
from kiln.stage import Stage
from kiln.store import Work
from kiln.target import UNKNOWN, Target
from kiln.tools import Tools

# What a file is compressed by, and how its name then ends. One thread, since bytes may depend on how many there are.
# zstd looks from one program back to the one before, since they have libraries in common: a fifth more than -19 makes
# of it, in a tenth of the time. lz4 and xz are told what the kernel can read.
COMPRESSORS = {
    "none": ([], ""),
    "gzip": (["gzip", "-9", "-n", "-c"], ".gz"),
    "lz4": (["lz4", "-l", "-9", "-q", "-c"], ".lz4"),
    "zstd": (["zstd", "-10", "--long=24", "-T1", "-q", "-c"], ".zst"),
    "xz": (["xz", "--check=crc32", "-6", "-T1", "-c"], ".xz"),
}
_SCRIPT = 'in=$1 out=$2; shift 2; exec "$@" "$in" > "$out"'


class Shown(Target):
    """A target whose files are linked into its board's output folder."""

    output: Output

    def files(self) -> dict[str, Path]:
        """The finished files by name."""
        return {path.name: path for path in self.built().root.iterdir()}

    @property
    def file(self) -> Path:
        """The finished file of a target that makes one."""
        (path,) = self.files().values()
        return path

    def published(self) -> bool:
        return self.output.shows(self.files())

    def publish(self) -> None:
        self.output.show(self.files())


class Artifact(Part, Shown):
    """A file of a board that is made by pinned tools; ``parts`` count by their contents."""

    def __init__(self, kind: str, doc: str, rootfs: Rootfs, tools: Tools, output: Path, /, **parts: Target) -> None:
        deps = (tools["sandbox"], tools["image"], *parts.values())
        super().__init__(kind, doc, rootfs.board, rootfs.store, deps)
        self.tools = tools
        self.parts = parts
        self.output = Output.of(self, rootfs.board.name, output)

    def made_from(self, **inputs: Any) -> dict[str, Any]:
        return super().made_from(tools=self.tools["image"].key(), **inputs)

    def inputs(self) -> dict[str, Any]:
        return self.made_from(parts={name: part.content() for name, part in self.parts.items()})

    @property
    def sandbox(self) -> Sandbox:
        return self.tools.sandbox("image")


class OfManifest(Artifact):
    """A file that holds the root file system."""

    def __init__(self, kind: str, doc: str, rootfs: Rootfs, tools: Tools, output: Path, /, **parts: Target) -> None:
        super().__init__(kind, doc, rootfs, tools, output, **parts, rootfs=rootfs)
        self.rootfs = rootfs

    def inputs(self) -> dict[str, Any]:
        # Not who owns a path: that changes nothing in the file.
        entry = self.rootfs.entry()
        parts = {name: part.content() for name, part in self.parts.items() if part is not self.rootfs}
        return self.made_from(manifest=entry.notes["content"] if entry else UNKNOWN, parts=parts)

    @property
    def content_id(self) -> str:
        """The digest of what the file will hold."""
        found: str = self.rootfs.built().notes["content"]
        return found

    def uuid(self, kind: str) -> uuid.UUID:
        """The identity of a file system of that kind that holds this."""
        return uuid.UUID(hex=digest.of_value([kind, self.content_id])[:32], version=4)


class Cpio(OfManifest):
    def __init__(self, rootfs: Rootfs, tools: Tools, output: Path) -> None:
        super().__init__("cpio", "the root file system as an initramfs", rootfs, tools, output)
        self.name_of_file = f"rootfs.cpio{COMPRESSORS[self.board.compress][1]}"

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {"compress": self.board.compress}

    def fill(self, work: Work) -> dict[str, Any]:
        plain = work.folder("plain") / "rootfs.cpio"
        cpio.write(self.rootfs.settled(), plain)
        compress(plain, work.root, self.board.compress, self.sandbox)
        return {}


class Tar(OfManifest):
    def __init__(self, rootfs: Rootfs, tools: Tools, output: Path) -> None:
        super().__init__("tar", "the root file system as an archive", rootfs, tools, output)

    def fill(self, work: Work) -> dict[str, Any]:
        plain = work.folder("plain") / "rootfs.tar"
        tar.write(self.rootfs.settled(), plain)
        compress(plain, work.root, "zstd", self.sandbox)
        return {}


class Ext4(OfManifest):
    def __init__(self, rootfs: Rootfs, tools: Tools, output: Path) -> None:
        super().__init__("ext4", "the root file system as an ext4 image", rootfs, tools, output)

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {"size": self.board.root_size}

    def fill(self, work: Work) -> dict[str, Any]:
        place, scratch, name = work.root / "rootfs.ext4", work.folder("scratch"), str(self.uuid("ext4"))
        size = self.board.root_size
        ext4.write(self.rootfs.settled(), place, sandbox=self.sandbox, scratch=scratch, size=size, uuid=name)
        return {"uuid": name}


class Squashfs(OfManifest):
    def __init__(self, rootfs: Rootfs, tools: Tools, output: Path) -> None:
        super().__init__("squashfs", "the root file system, compressed and read-only", rootfs, tools, output)

    def fill(self, work: Work) -> dict[str, Any]:
        place, scratch = work.root / "rootfs.squashfs", work.folder("scratch")
        squashfs.write(self.rootfs.settled(), place, sandbox=self.sandbox, scratch=scratch)
        return {}


class Erofs(OfManifest):
    def __init__(self, rootfs: Rootfs, utils: Stage, tools: Tools, output: Path) -> None:
        doc = "the root file system as an EROFS image, read-only"
        super().__init__("erofs", doc, rootfs, tools, output, utils=utils)
        self._utils = utils

    def fill(self, work: Work) -> dict[str, Any]:
        place, scratch, utils = work.root / "rootfs.erofs", work.folder("scratch"), self._utils.sound().root
        name = str(self.uuid("erofs"))
        erofs.write(self.rootfs.settled(), place, sandbox=self.sandbox, scratch=scratch, utils=utils, uuid=name)
        return {}


class Oci(OfManifest):
    def __init__(self, rootfs: Rootfs, tools: Tools, output: Path) -> None:
        super().__init__("oci", "the root file system as a container image", rootfs, tools, output)

    def fill(self, work: Work) -> dict[str, Any]:
        plain, scratch = work.folder("plain") / "rootfs.tar", work.folder("scratch")
        tar.write(self.rootfs.settled(), plain)
        place, board = work.root / "rootfs.oci.tar", self.board
        oci.write(plain, place, sandbox=self.sandbox, scratch=scratch, architecture=board.arch.name, name=board.name)
        return {}


class OfPackages(Artifact):
    """An initramfs of the packages ``stages``; the files of ``early`` come first, where nothing is compressed.

    A kernel looks there for microcode long before it unpacks anything; what else is there, it unpacks with the rest.
    """

    def __init__(
        self,
        kind: str,
        doc: str,
        stages: Sequence[Stage],
        early: Sequence[Stage],
        rootfs: Rootfs,
        tools: Tools,
        output: Path,
        /,
        **parts: Target,
    ) -> None:
        parts |= {stage.package: stage for stage in (*stages, *early)}
        super().__init__(kind, doc, rootfs, tools, output, **parts)
        self.stages = stages
        self.early = early

    def inputs(self) -> dict[str, Any]:
        early = [stage.package for stage in self.early]
        return super().inputs() | {"compress": self.board.compress, "early": early}

    def front(self, layers: Sequence[Layer]) -> Manifest:
        """What the early segment holds. Raises KilnError where one root cannot hold it and ``layers``."""
        early: list[Layer] = []
        for stage in self.early:
            nodes = filter(is_shipped, tree_nodes(stage.sound().root, stage.package))
            early.append((stage.package, [node for node in nodes if node.kind != "dir"]))
        Manifest.merge([*layers, *early])
        return Manifest.merge(early)

    def pack(self, front: Manifest, plain: Path, work: Work) -> None:
        """Make the result: the early segment, where there is one, and a compressed archive."""
        made = compress(plain, work.root, self.board.compress, self.sandbox)
        if front.nodes:
            segment = work.folder("early") / plain.name
            cpio.write(front, segment)
            made.write_bytes(segment.read_bytes() + made.read_bytes())


class Initramfs(OfPackages):
    """A small initramfs that finds the real root and goes on there."""

    def __init__(
        self, stages: Sequence[Stage], early: Sequence[Stage], rootfs: Rootfs, tools: Tools, output: Path
    ) -> None:
        doc = "a small initramfs that finds the root file system and goes on there"
        super().__init__("initramfs", doc, stages, early, rootfs, tools, output)

    def fill(self, work: Work) -> dict[str, Any]:
        layers: list[Layer] = [("board", [console()])]
        for stage in self.stages:
            nodes = tree_nodes(stage.sound().root, stage.package)
            layers.append((stage.package, [node for node in nodes if is_shipped(node)]))
        plain = work.folder("plain") / "initramfs.cpio"
        front, manifest = self.front(layers), Manifest.merge(layers)
        cpio.write(manifest, plain)
        self.pack(front, plain, work)
        made = (*front.nodes, *manifest.nodes)
        return {"packages": {node.path: node.package for node in made if node.kind == "file"}}


def compress(plain: Path, folder: Path, name: str, sandbox: Sandbox) -> Path:
    """A file as the compressor of that name makes it, in ``folder``."""
    words, ending = COMPRESSORS[name]
    mounts = [Mount(source=plain.parent, target="/inputs"), Mount(source=folder, target="/dest", writable=True)]
    made = folder / f"{plain.name}{ending}"
    places = (f"/inputs/{plain.name}", f"/dest/{made.name}")
    sandbox.with_mounts(mounts).run(["sh", "-c", _SCRIPT, "sh", *places, *(words or ["cat"])])
    return made

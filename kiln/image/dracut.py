"""An initramfs that dracut makes of our own programs, in the sandbox."""

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kiln.dracut.lint import MODULES, Known, lint
from kiln.dracut.profile import Profile
from kiln.errors import KilnError
from kiln.image import cpio, origins, secrets
from kiln.image.manifest import Layer, Manifest, Node, tree_nodes
from kiln.image.media import OfPackages
from kiln.image.targets import Rootfs, console, is_shipped
from kiln.initramfs.links import Links
from kiln.initramfs.verify import verify
from kiln.initramfs.view import View
from kiln.process import CommandFailed
from kiln.sandbox import Mount, Sandbox
from kiln.stage import Stage
from kiln.store import Work
from kiln.tools import Tools
from kiln.trees import EPOCH, link

# What every one of them can do: it finds a root on any disk that the kernel has a driver for, goes on there, and says
# what it waits for.
_MODULES = "base busybox udev-rules rootfs-block fs-lib kiln-wait"

# What dracut would otherwise ask the machine that it runs on.
_ENV = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "DRACUT_INSTALL": "/tools/bin/dracut-install",
    "DRACUT_LDCONFIG": "/bin/true",
    "DRACUT_NO_MKNOD": "1",
    "DRACUT_TESTBIN": "/usr/bin/busybox",
    "PKG_CONFIG": "/bin/false",
    "SOURCE_DATE_EPOCH": str(EPOCH),
}
# Programs have no symbols any more; the writer of archives packs, and leaves out times and owners.
_OPTIONS = (
    "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode", "--nohardlink", "--nostrip", "--no-compress",
    "--reproducible", "--force", "--keep",
)  # fmt: skip
# It would look for a helper of udev that we leave out. To tell the size of each module, it calls `du` after it: that is
# when we write down what is there.
_SEEN = "seen"
_CONF = f"""\
udevdir="/usr/lib/udev"
printsize="yes"
du() {{ find "$initdir" -type f -printf "$_d_mod %P\\n" >> /work/{_SEEN}; command du "$@"; }}
"""

# Or fsck would come in, and look for others that are not there.
_NO_CHECKS = 'nofscks="yes"\n'

# dracut wants all programs in one folder, and all libraries.
_LINKS = {"bin": "usr/bin", "sbin": "usr/bin", "usr/sbin": "bin", "lib": "usr/lib", "lib64": "usr/lib"}

# It goes on after most mistakes.
_MISTAKE = re.compile(r"(?:^dracut(?:-install)?(?:\[[EF]\]|: ERROR): |^/config/)(.*)")
_SHOWN_LINES = 8

# What it leaves to guess.
_REMEDIES = (
    (
        re.compile(r"Module '([^']+)' cannot be installed"),
        "check() of modules.d/*{}/module-setup.sh said no: see there which program or driver it wants",
    ),
    (
        re.compile(r"^installing '([^']+)'"),
        "only files of packages get in, none of an overlay or of this machine: let a recipe install {}",
    ),
)


class Dracut(OfPackages):
    """What dracut makes of a sysroot of ``stages``, which is never shipped. Where two bring a path, the first wins.

    ``maker`` brings dracut's own program for the build machine.
    """

    def __init__(
        self,
        profile: Profile,
        stages: Sequence[Stage],
        early: Sequence[Stage],
        maker: Stage,
        rootfs: Rootfs,
        tools: Tools,
        output: Path,
    ) -> None:
        super().__init__(profile.id, profile.doc, stages, early, rootfs, tools, output, **{maker.package: maker})
        self.deps = (*self.deps, tools["build"])
        self._profile = profile
        self._maker = maker
        self._plain = profile.id.replace(":", "-")
        self._log = output / "logs" / f"{self._plain}.log"

    def inputs(self) -> dict[str, Any]:
        return super().inputs() | {
            "order": [stage.package for stage in self.stages],
            "build": self.tools["build"].key(),
            "told": self._profile.told(),
            "must": list(self._profile.must),
        }

    def fill(self, work: Work) -> dict[str, Any]:
        sysroot, config, scratch = (work.folder(name) for name in ("sysroot", "config", "scratch"))
        nodes = _lay({stage.package: stage.sound().root for stage in self.stages}, sysroot)
        digests = {node.digest: node.package for node in nodes.values() if node.kind == "file"}
        for name, path in self._profile.modules.items():
            place = sysroot / MODULES / name
            if place.exists():  # one of dracut's own, whose files are those of the store
                shutil.rmtree(place)
            shutil.copytree(path, place, symlinks=True)
            digests |= {node.digest: "board" for node in tree_nodes(path, name) if node.kind == "file"}
        known = Known.of(sysroot)
        self._check(known)
        (config / "dracut.conf").write_text(_CONF if self._profile.checks else _CONF + _NO_CHECKS)
        for name, text in self._profile.texts().items():
            (config / name).write_text(text)
        mounts = [
            Mount(source=sysroot, target="/sysroot"),
            Mount(source=config, target="/config"),
            Mount(source=self._maker.sound().root, target="/tools"),
            Mount(source=scratch, target="/work", writable=True),
        ]
        applets = [Path(path).name for path, node in nodes.items() if Path(node.target).name == "busybox"]
        env = {"DRACUT_ARCH": self.board.arch.name, "DRACUT_MODULE_BUSYBOX_LINKS": " ".join(applets)}
        releases = [path.name for path in (sysroot / "usr/lib/modules").glob("*")]
        self._run(self.tools.sandbox("build").with_mounts(mounts).with_env(_ENV | env), releases, work.log)
        (made,) = scratch.glob("dracut.*/initramfs")
        found = [node for node in tree_nodes(made, "dracut") if is_shipped(node)]
        named = [replace(node, package=nodes.get(node.path, node).package) for node in secrets.guarded(found, ())]
        plain = work.folder("plain") / f"{self._plain}.cpio"
        layers: list[Layer] = [("board", [console()]), *_by_package(named)]
        front = self.front(layers)
        cpio.write(Manifest.merge(layers), plain)
        links = Links(view=View.read(plain, keep=True))
        self._verify(links, known.builtin, digests)
        self.pack(front, plain, work)
        seen = origins.first_seen((scratch / _SEEN).read_text().splitlines())
        early = {node.path: node.package for node in front.nodes if node.kind == "file"}
        packages = origins.packages(links, {node.path: node.package for node in nodes.values()}, digests)
        modules = origins.modules(links, seen, self._profile.items)
        return {"packages": packages | early, "modules": modules | dict.fromkeys(early, origins.EARLY)}

    def _verify(self, links: Links, builtin: Collection[str], digests: Collection[str]) -> None:
        """Raise KilnError for all that would keep it from doing its work."""
        found = verify(links, must=self._profile.must, builtin=builtin, known=digests)
        wrong = [one for one in found if one.wrong]
        if wrong:
            said = "".join(f"\n    {one.where}: {one.text}\n        {one.instead}" for one in wrong)
            raise KilnError(f"it would not do its work{said}", where=self.id)

    def _check(self, known: Known) -> None:
        """Raise KilnError for the first line of a configuration that does not do what it says."""
        for path in self._profile.files:
            for finding in lint(path.read_text(), known, useful=not self._profile.is_broad(path)):
                if finding.wrong:
                    where = f"{os.path.relpath(path, self.board.root)}:{finding.number}"
                    raise KilnError(finding.text, where=where, hint=finding.instead or None)

    def _run(self, sandbox: Sandbox, releases: Sequence[str], log: Path) -> None:
        """Run dracut, for the kernel whose modules are there. Raises KilnError for whatever it calls a mistake."""
        kernel = ["--no-kernel", "--kver", "none"]
        if releases:
            (release,) = releases
            # Without the folder, it would look for built-in drivers on the machine that builds.
            kernel = ["--kver", release, "--kmoddir", f"/sysroot/usr/lib/modules/{release}"]
        modules = f"{_MODULES} kernel-modules" if releases else _MODULES
        words = ["bash", "/sysroot/usr/bin/dracut", "--sysroot", "/sysroot", "--tmpdir", "/work"]
        words += ["--conf", "/config/dracut.conf", "--confdir", "/config", "--modules", modules, *_OPTIONS]
        failed = None
        try:
            sandbox.run([*words, *kernel, "/work/made"], log=log)
        except CommandFailed as error:
            failed = error
        self._log.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, self._log)
        lines = log.read_text(errors="replace").splitlines()
        wrong = [found[1] for line in lines if (found := _MISTAKE.search(line))]
        if failed or wrong:
            said = "".join(f"\n    {line}" for line in wrong or lines[-_SHOWN_LINES:])
            remedies = [
                text.format(match[1]) for line in wrong for known, text in _REMEDIES if (match := known.search(line))
            ]
            hint = "\n  ".join([*remedies, f"log      {os.path.relpath(self._log)}"])
            raise KilnError(f"dracut could not make all of it{said}", where=self.id, hint=hint) from failed


def _lay(roots: Mapping[str, Path], into: Path) -> dict[str, Node]:
    """Lay results over each other in dracut's order of folders; returns what is there, by its path."""
    for name, target in _LINKS.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).symlink_to(target)
    for target in ("usr/bin", "usr/lib"):
        (into / target).mkdir()
    laid: dict[str, Node] = {}
    for package, root in roots.items():
        for node in filter(is_shipped, tree_nodes(root, package)):
            path = _moved(node.path)
            place = into / path
            if node.kind == "dir":
                place.mkdir(parents=True, exist_ok=True)
            elif path not in laid:
                laid[path] = node
                link(root / node.path, place)
    return laid


def _moved(path: str) -> str:
    """Where something lies in dracut's order of folders."""
    for folder in ("usr/sbin/", "sbin/", "bin/"):
        if path.startswith(folder):
            return f"usr/bin/{path[len(folder) :]}"
    return f"usr/{path}" if path.startswith("lib/") else path


def _by_package(nodes: Sequence[Node]) -> list[tuple[str, list[Node]]]:
    names = sorted({node.package for node in nodes})
    return [(name, [node for node in nodes if node.package == name]) for name in names]

"""The graph of a board: every target that its images are made from."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from kiln import board as boards
from kiln import digest
from kiln.board import Board
from kiln.dracut.profile import PROFILES, Profile
from kiln.errors import KilnError, nearest
from kiln.image.boot import Disk, Embedded, Grub, IpxeIso, Iso, Qcow2, Uefi, Uki
from kiln.image.dracut import Dracut
from kiln.image.image import Image
from kiln.image.licenses import Licenses
from kiln.image.media import Artifact, Cpio, Erofs, Ext4, Initramfs, Oci, OfManifest, OfPackages, Shown, Squashfs, Tar
from kiln.image.targets import Rootfs
from kiln.jobs import Jobserver
from kiln.kernel import PrebuiltKernel
from kiln.netboot.script import has_script
from kiln.recipe import load as recipe_load
from kiln.recipe.load import Recipe
from kiln.recipe.step import Step
from kiln.settings import Settings
from kiln.source.tree import Patched, SourceTree
from kiln.stage import INITRAMFS, Stage, Workshop, with_libs
from kiln.store import Store
from kiln.target import Target, closure
from kiln.tools import Tools
from kiln.vm.road import Road
from kiln.vm.roads import ROADS

KERNEL, KERNEL_MODULES = "linux", "linux-modules"

# What a package that is compiled for the board gets without asking.
_TOOLCHAIN = "toolchain"
_SHARED_LIBC = "musl"
_LIBC = ("linux-headers", _SHARED_LIBC)
# What writes EROFS images, and what the small initramfs consists of, in projects that have them.
_EROFS = "erofs-utils"
_INITRAMFS = ("busybox", "early-init")
# What dracut's initramfs are made from, and with; where a program is in BusyBox as well, theirs is taken.
_DRACUT, _DRACUT_TOOL = ("dracut", "kmod", "udev", "util-linux"), "dracut-install"
# What lets dracut's find a live system.
_LIVE = ("dmsquash-live",)
_FOR_COMPILERS = ("libucontext", "linux", "linux-headers")


class Graph:
    """The targets of one board, made from recipes when first asked for."""

    def __init__(
        self, settings: Settings, board: Board, recipes: Mapping[str, Recipe], trees: Mapping[str, Path] = {}
    ) -> None:
        self.settings = settings
        self.board = board
        self.recipes = recipes
        self.store = Store(settings.store, shared=settings.shared, local=Store(settings.output / "local"))
        self.tools = Tools(settings, self.store)
        self.jobserver = Jobserver(settings.jobs)
        self._workshop = Workshop(
            store=self.store,
            tools=self.tools,
            jobserver=self.jobserver,
            logs=settings.output / "logs",
            ccache=settings.ccache,
        )
        self._trees = trees
        self._sources: dict[tuple[str, str], SourceTree] = {}
        for where, names in (("KILN_KEEP_BUILD", settings.keep_build), ("doit dev", trees)):
            for name in names:
                if name not in recipes:
                    raise KilnError(f"there is no package {name!r}", where=where, hint=nearest(name, recipes))

    @staticmethod
    def load(settings: Settings, board: str, trees: Mapping[str, Path] = {}) -> "Graph":
        """The graph of a board; ``trees`` are working trees that stand in for the sources of packages."""
        recipes = recipe_load.load(settings.root / "packages")
        return Graph(settings, boards.load(settings.root, board, recipes), recipes, trees)

    def version(self, package: str) -> str:
        return self.board.versions.get(package, self.recipes[package].package.version)

    def stages(self, package: str) -> dict[str, Stage]:
        """The stages of a package by name, in order."""
        if package not in self.recipes:
            raise KilnError(f"there is no package {package!r}", hint=nearest(package, self.recipes))
        return self._stages[package]

    @cached_property
    def _stages(self) -> dict[str, dict[str, Stage]]:
        made: dict[str, dict[str, Stage]] = {}
        needs = {name: self._needs(recipe) for name, recipe in self.recipes.items()}
        for name in recipe_load.order(self.recipes, {name: tools | libs for name, (tools, libs) in needs.items()}):
            used, libs = ([made[other]["build"] for other in sorted(others)] for others in needs[name])
            made[name] = self._make_stages(self.recipes[name], used, libs)
        return made

    def result(self, package: str) -> Stage:
        """The stage that holds what a package installs."""
        return self.stages(package)["build"]

    def named(self, name: str) -> list[Target]:
        """The stages of a package, or the target of that name."""
        if name in self.recipes:
            return list(self.stages(name).values())
        found = [target for target in self.targets if target.id == name]
        if not found:
            known = [*self.recipes, *(target.id for target in self.targets)]
            raise KilnError(f"there is no package or target {name!r}", hint=nearest(name, known))
        return found

    def source(self, package: str, version: str) -> SourceTree:
        if (package, version) not in self._sources:
            pins = self.recipes[package].package.sources
            if version not in pins:
                raise KilnError(f"{package} has no pinned source for version {version}", where=self._file(package))
            self._sources[package, version] = SourceTree(package, version, pins[version], self.settings, self.store)
        return self._sources[package, version]

    def runtime(self) -> list[str]:
        """The packages of the image: those that the board names, and what they need at run time."""
        return self._running(self.board.packages)

    @property
    def vm(self) -> str:
        """The set of tools that has the board's QEMU."""
        return f"vm-{self.board.arch.name}"

    @property
    def roads(self) -> list[str]:
        """The ways by which the board boots."""
        return [name for name, road in ROADS.items() if self._leads(road)]

    def _leads(self, road: Road) -> bool:
        if not set(road.packages) <= set(self.board.packages):
            return False
        if road.dracut and self.board.initramfs != "dracut":
            return False
        if not all(self._profile.calls_for([module]) for module in road.dracut):
            return False
        return set(road.media) <= self.media.keys() and (self.board.loader == "syslinux" or not road.pc)

    @cached_property
    def _profile(self) -> Profile:
        """What dracut is told of the board's own initramfs."""
        return Profile(board=self.board)

    @cached_property
    def kernel(self) -> Stage | PrebuiltKernel:
        """What the board boots."""
        if self.board.kernel:
            return PrebuiltKernel(self.board.kernel, self.settings, self.store)
        return self.result(KERNEL)

    @cached_property
    def rootfs(self) -> Rootfs:
        names = self.runtime()
        if self.board.kernel and KERNEL_MODULES in names:
            hint = f"leave {KERNEL_MODULES} out; an overlay can have those of {self.board.kernel.name}, in lib/modules"
            raise KilnError(f"{KERNEL_MODULES} is of a kernel that is built here", where="packages", hint=hint)
        packages = [self.recipes[name].package for name in names]
        return Rootfs(self.board, packages, [self.result(name) for name in names], self.store)

    @cached_property
    def media(self) -> dict[str, Shown]:
        """Everything that the board can be shipped as, by name."""
        rootfs, kernel, tools, output = self.rootfs, self.kernel, self.tools, self.settings.output
        ext4 = Ext4(rootfs, tools, output)
        cpio, squashfs = Cpio(rootfs, tools, output), Squashfs(rootfs, tools, output)
        roots: dict[str, OfManifest] = {"ext4": ext4, "squashfs": squashfs}
        if _EROFS in self.recipes:
            roots["erofs"] = Erofs(rootfs, self.result(_EROFS), tools, output)
        made: list[Shown] = [cpio, Tar(rootfs, tools, output), *roots.values(), Oci(rootfs, tools, output)]
        initramfs: Artifact | None = None
        emergency: Artifact | None = None
        if self.board.initramfs == "dracut":
            initramfs, profiles = self._dracut(), {name: self._dracut(name) for name in PROFILES}
            emergency = profiles["emergency"]
            made += [initramfs, *profiles.values()]
        elif self.board.initramfs == "simple" and self.recipes.keys() >= set(_INITRAMFS):
            initramfs = Initramfs(list(map(self.result, self._running(_INITRAMFS))), self._early, rootfs, tools, output)
            made.append(initramfs)
        if self.board.loader == "syslinux":
            if self.board.disk_root not in roots:
                hint = f"add the package {_EROFS} to packages/"
                raise KilnError("nothing here writes EROFS", where="disk_root", hint=hint)
            root = roots[self.board.disk_root]
            disk = Disk(root, rootfs, kernel, tools, output, emergency)
            made += [disk, Qcow2(disk, rootfs, tools, output), Grub(rootfs, kernel, tools, output, emergency)]
            made.append(Uefi(root, rootfs, kernel, tools, output, emergency))
            if has_script(self.board):
                made.append(IpxeIso(cpio, rootfs, kernel, tools, output))
            if initramfs:
                made.append(Uki(root, initramfs, rootfs, kernel, tools, output))
            if isinstance(initramfs, Initramfs) or (initramfs and self._profile.calls_for(_LIVE)):
                made.append(Iso(squashfs, initramfs, rootfs, kernel, tools, output, emergency))
        if isinstance(kernel, Stage):
            made.append(self._embedded(cpio))
        return {medium.id: medium for medium in made}

    @cached_property
    def image(self) -> Image:
        for name in self.board.images:
            if name not in self.media:
                hint = nearest(name, self.media)
                raise KilnError(f"{self.board.name} cannot be shipped as {name!r}", where="images", hint=hint)
        shipped = with_libs(self.rootfs.stages + ([self.kernel] if isinstance(self.kernel, Stage) else []))
        media = [self.media[name] for name in self.board.images]
        for target in closure(*media):
            if isinstance(target, OfPackages):
                shipped = with_libs([*shipped, *target.stages, *target.early])
        licenses = Licenses(self.board, shipped, self.recipes, self.store)
        others = [medium for medium in self.media.values() if medium not in media]
        return Image(self.rootfs, self.kernel, licenses, media, others, self.settings.output)

    @cached_property
    def targets(self) -> list[Target]:
        """Every target: those of the board's image first, then what it leaves out, and all tools."""
        others = [stage for name in self.recipes for stage in self.stages(name).values()]
        return closure(self.image, *self.media.values(), *others, *self.tools)

    def needed(self, target: Target) -> bool:
        """Whether the board's image needs a lazy target made, because a user of it must be made."""
        users = self._users.get(target.id, ())
        return any(self.needed(user) if user.lazy else not user.entry() for user in users)

    @cached_property
    def _users(self) -> dict[str, list[Target]]:
        users: dict[str, list[Target]] = {}
        for target in closure(self.image):
            for dep in target.deps:
                if dep.lazy:
                    users.setdefault(dep.id, []).append(target)
        return users

    def _needs(self, recipe: Recipe) -> tuple[set[str], set[str]]:
        """The packages that run while a package is built, and those that it is compiled against."""
        package = recipe.package
        if package.libc and package.name in (_TOOLCHAIN, *_LIBC):
            hint = "it is what others are compiled with: libc=False"
            raise KilnError("cannot be compiled with itself", where=self._file(package.name), hint=hint)
        more = ((_TOOLCHAIN,), _LIBC) if package.libc else ((), ())
        libs = package.libs_for(self.board.options.get(package.name, {}))
        return {*package.tools, *more[0]}, {*libs, *more[1]}

    def _make_stages(self, recipe: Recipe, used: Sequence[Stage], libs: Sequence[Stage]) -> dict[str, Stage]:
        package = recipe.package
        version, tree = self.version(package.name), self._trees.get(package.name)
        source = self._source_of(recipe, version, patched=not tree)
        stages: dict[str, Stage] = {}
        for stage, phases in package.stages.items():
            keep = tree or (stage == "build" and package.name in self.settings.keep_build)
            place = f"{package.name}-{stage}" + (f"-{digest.of_value(os.fspath(tree))[:12]}" if tree else "")
            stages[stage] = Stage(
                package,
                version,
                stage,
                self._workshop,
                steps={phase: self._record(recipe, phase) for phase in phases},
                source=source,
                before=next(reversed(stages.values()), None),
                used=used,
                libs=libs,
                tree=tree,
                kept=self.store.local.path / "kept" / self.board.name / place if keep else None,
            )
        return stages

    def _dracut(self, name: str = "") -> Dracut:
        """What dracut makes for a profile."""
        profile = Profile(board=self.board, name=name) if name else self._profile
        called = [name for name, recipe in self.recipes.items() if profile.calls_for(recipe.package.dracut)]
        packages = [*_DRACUT, *called, *([KERNEL_MODULES] if isinstance(self.kernel, Stage) else [])]
        for needed in (*packages, _DRACUT_TOOL):
            if needed not in self.recipes:
                raise KilnError(f"dracut needs the package {needed!r}", where="initramfs", hint='initramfs = "simple"')
        # What only compilers need would change it for nothing.
        stages = [stage for stage in with_libs(map(self.result, packages)) if stage.package not in _FOR_COMPILERS]
        stages.append(self.result("busybox"))
        maker = self.result(_DRACUT_TOOL)
        return Dracut(profile, stages, self._early, maker, self.rootfs, self.tools, self.settings.output)

    @property
    def _early(self) -> list[Stage]:
        """The packages that come first in every initramfs of the board."""
        return [self.result(name) for name in self.board.early]

    def _embedded(self, cpio: Cpio) -> Embedded:
        """The kernel with ``cpio`` inside."""
        recipe, kernel = self.recipes[KERNEL], self.result(KERNEL)
        package = recipe.package
        # The name of the archive says how it is compressed.
        place = f"{INITRAMFS}/{cpio.name_of_file}"
        return Embedded(
            package,
            kernel.version,
            self._workshop,
            self.settings.output,
            self.board,
            steps={phase: self._record(recipe, phase, initramfs=place) for phase in package.stages["build"]},
            source=kernel.source,
            before=kernel.before,
            used=kernel.used,
            libs=kernel.libs,
            tree=kernel.tree,
            kept=kernel.kept and kernel.kept.with_name(f"{kernel.kept.name}-embedded"),
            initramfs=cpio,
        )

    def _source_of(self, recipe: Recipe, version: str, *, patched: bool) -> SourceTree | Patched | None:
        package = recipe.package
        if package.source is None:
            return None
        tree = self.source(package.source if isinstance(package.source, str) else package.name, version)
        if not recipe.patches or not patched:
            return tree
        return Patched(tree, package.name, recipe.patches, self.tools)

    def _record(self, recipe: Recipe, phase: str, *, initramfs: str = "") -> Step:
        step = Step(recipe.folder, self.board.options.get(recipe.package.name, {}), initramfs=initramfs)
        function = recipe.package.phase(phase)
        if function:
            try:
                function(step, self.board)
            except Exception as error:
                raise recipe_load.failure(error, recipe.folder) from error
        if phase == "install":
            for file in recipe.package.license_files:
                step.license(recipe.package.name, file)
        return step

    def _running(self, names: Iterable[str]) -> list[str]:
        """These packages, what they need at run time, and the shared libraries that they are linked against."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                package = self.recipes[name].package
                pending += package.runtime
                if package.is_linked(self.board):
                    libs = package.libs_for(self.board.options.get(name, {}))
                    pending += [_SHARED_LIBC, *(lib for lib in libs if self.recipes[lib].package.shared)]
        return sorted(found)

    def _file(self, package: str) -> str:
        return os.path.relpath(self.recipes[package].folder / "recipe.py", self.settings.root)

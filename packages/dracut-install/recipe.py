from kiln import Board, Package, Step

dracut_install = Package(
    name="dracut-install",
    version="112",
    summary="what copies files and their libraries for dracut, on the build machine",
    source="dracut",
    license="GPL-2.0-or-later",
    license_files=("COPYING",),
    libs=("kmod-tools",),
    libc=False,
)


@dracut_install.build
def build(step: Step, board: Board) -> None:
    # This make writes beside its sources, and those are read-only.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    kmod = {
        "KMOD_CFLAGS": f"-DCONFIG_WEAKDEP -I{step.sysroot}/usr/include",
        "KMOD_LIBS": f"-L{step.sysroot}/usr/lib -lkmod",
    }
    step.make("src/install/dracut-install", "CC=cc", "LDFLAGS=-static -s", **kmod)


@dracut_install.install
def install(step: Step, board: Board) -> None:
    step.install("src/install/dracut-install", "bin/dracut-install", mode=0o755)

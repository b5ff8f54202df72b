from kiln import Board, Debian, Package, Step

erofs_utils = Package(
    name="erofs-utils",
    version="1.8.6",
    summary="mkfs.erofs for the build machine: Debian 12's cannot read tar archives",
    source=Debian(
        "erofs-utils_1.8.6.orig.tar.gz",
        sha256="5b221dc3fd6d151425b30534ede46fb7a90dc233a8659cba0372796b0a066547",
        content="sha256:1f353d676564854a4f52f5553a96771226c0f5238bfdbb9cc45f6f323be90f23",
    ),
    license="GPL-2.0-or-later",
    license_files=("COPYING", "LICENSES/GPL-2.0"),
    libs=("lz4",),
    libc=False,
)


@erofs_utils.configure
def configure(step: Step, board: Board) -> None:
    # A copy, since autoreconf writes beside the sources.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    # The tools tree has Automake by its versioned names alone.
    step.run("autoreconf", "--install", env={"ACLOCAL": "aclocal-1.16", "AUTOMAKE": "automake-1.16"})
    env = {"PKG_CONFIG_LIBDIR": f"{step.sysroot}/usr/lib/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": step.sysroot}
    # One thread, so that images are the same however many processors there are.
    step.run("./configure", "--disable-multithreading", "--disable-fuse", "--enable-lz4", "--without-uuid", env=env)


@erofs_utils.build
def build(step: Step, board: Board) -> None:
    # The image tools that it runs beside are another tree, with libraries of its own.
    step.make("LDFLAGS=-all-static -s")


@erofs_utils.install
def install(step: Step, board: Board) -> None:
    step.install("mkfs/mkfs.erofs", "bin/mkfs.erofs", mode=0o755)

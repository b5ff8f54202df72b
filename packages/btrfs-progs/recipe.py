from kiln import Autotools, Board, Debian, Step

btrfs_progs = Autotools(
    name="btrfs-progs",
    version="6.14",
    summary="makes, checks and repairs file systems of btrfs, and finds the disks of each",
    source=Debian(
        "btrfs-progs_6.14.orig.tar.gz",
        sha256="5a85b791f0f32a4994e864ac4cb7abccce08e56db3010a1855ad0edeebc70b4c",
        content="sha256:11ab302b8d55063942b75da340db35b37563b3f6492f777ef625e6dc7448debe",
    ),
    license="GPL-2.0-only AND LGPL-2.1-or-later AND BSD-2-Clause AND BSD-3-Clause AND CC0-1.0",
    # The last three hold the terms of the code for check sums.
    license_files=("COPYING", "libbtrfsutil/COPYING", "crypto/blake2.h", "crypto/sha.h", "crypto/xxhash.c"),
    libs=("util-linux", "zlib"),
    dracut=("btrfs",),
    shared=True,
    copied=True,
    args=(
        *(f"--disable-{name}" for name in ("backtrace", "convert", "documentation", "libudev", "lzo", "python")),
        *(f"--disable-{name}" for name in ("shared", "static", "zoned", "zstd")),
        # It would run a program of the board to find out.
        "ac_cv_func_malloc_0_nonnull=yes",
        "ac_cv_func_realloc_0_nonnull=yes",
    ),
)


@btrfs_progs.configure
def configure(step: Step, board: Board) -> None:
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    # The archive comes without configure, and the tools tree has Automake by its versioned names alone.
    step.run("autoreconf", "--install", env={"ACLOCAL": "aclocal-1.16", "AUTOMAKE": "automake-1.16"})
    btrfs_progs.style_configure(step, board)


@btrfs_progs.build
def build(step: Step, board: Board) -> None:
    # Programs of one place, for which zlib's archive is made; and the names that they would export by themselves keep
    # code that nothing uses.
    links = f"LDFLAGS={' '.join(btrfs_progs.ldflags(board))} -no-pie"
    step.make("btrfs.box", links, "EXTRA_CFLAGS=-fno-pic")


@btrfs_progs.install
def install(step: Step, board: Board) -> None:
    # One program with all names is smaller than two.
    step.install("btrfs.box", "usr/sbin/btrfs", mode=0o755)
    step.symlink("btrfs", "usr/sbin/mkfs.btrfs")
    step.install("64-btrfs-dm.rules", "usr/lib/udev/rules.d/64-btrfs-dm.rules")

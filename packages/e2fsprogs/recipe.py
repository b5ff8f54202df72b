from kiln import Autotools, Board, Debian, Step

e2fsprogs = Autotools(
    name="e2fsprogs",
    version="1.47.2",
    summary="makes, checks and repairs file systems of ext2, ext3 and ext4",
    source=Debian(
        "e2fsprogs_1.47.2.orig.tar.gz",
        sha256="6dcd67ff9d8b13274ba3f088e4318be4f5b71412cd863524423fc49d39a6371f",
        content="sha256:e8662d013d8b6874e7dea6df4ca8c8c6c9af769e93bde2f7dfaf98e058bac9a2",
    ),
    license="GPL-2.0-only AND LGPL-2.0-only AND MIT",
    license_files=("NOTICE",),
    libs=("util-linux",),
    dracut=("e2fsck", "fsck.ext4", "mke2fs", "tune2fs"),
    shared=True,
    args=(
        # Those of util-linux.
        *(f"--disable-{name}" for name in ("libblkid", "libuuid")),
        *(f"--disable-{name}" for name in ("backtrace", "nls", "tdb", "testio-debug", "uuidd")),
        "--without-pthread",
        "--without-libarchive",
    ),
)


@e2fsprogs.build
def build(step: Step, board: Board) -> None:
    # Its other programs are for those who look into file systems.
    step.make("libs")
    step.make("e2fsck", cwd=f"{step.build}/e2fsck")
    step.make("mke2fs", "tune2fs", cwd=f"{step.build}/misc")


@e2fsprogs.install
def install(step: Step, board: Board) -> None:
    for program in ("e2fsck/e2fsck", "misc/mke2fs", "misc/tune2fs"):
        step.install(program, f"usr/sbin/{program.rpartition('/')[2]}", mode=0o755)
    for kind in ("ext2", "ext3", "ext4"):
        step.symlink("e2fsck", f"usr/sbin/fsck.{kind}")
        step.symlink("mke2fs", f"usr/sbin/mkfs.{kind}")

from kiln import Board, Debian, Package, Step

mdadm = Package(
    name="mdadm",
    version="4.4",
    summary="disks that hold the same, or are one together",
    source=Debian(
        "mdadm_4.4.orig.tar.xz",
        sha256="68d4efd220474c0fda80e6c09d1909a3b3484592ba2815c0caa9e10437543022",
        content="sha256:e3ddcf80e8837aac0447fdbe2488fcba8dae8d7f036acfeead2ecb55723a927d",
    ),
    license="GPL-2.0-or-later",
    license_files=("COPYING",),
    shared=True,
    dracut=("mdraid",),
)

PATHS = ("BINDIR=/usr/sbin", "UDEVDIR=/usr/lib/udev")


@mdadm.build
def build(step: Step, board: Board) -> None:
    # This make writes beside its sources, and those are read-only.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    # Its own flags call any warning an error, musl shows off64_t to those who ask, and only watching arrays for a long
    # time would want libudev.
    flags = ("-Wno-error", *mdadm.cflags, "-D_LARGEFILE64_SOURCE", "-DNO_LIBUDEV")
    links = f"LDFLAGS={' '.join(mdadm.ldflags(board))}"
    step.make("mdadm", f"CC={board.cc}", f"CXFLAGS={' '.join(flags)}", links, "CHECK_RUN_DIR=0", *PATHS)


@mdadm.install
def install(step: Step, board: Board) -> None:
    # `make install` would build mdmon as well, for the metadata of firmware alone.
    step.install("mdadm", "usr/sbin/mdadm", mode=0o755)
    step.make("install-udev", f"DESTDIR={step.dest}", *PATHS)

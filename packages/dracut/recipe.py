from kiln import Board, Debian, Package, Step

dracut = Package(
    name="dracut",
    version="112",
    summary="makes an initramfs of modules",
    source=Debian(
        "dracut_112.orig.tar.gz",
        sha256="839d21eb4bd27bb0ee40d74c9da46df088c2e1425fcd8c3ea62b7e3a3dd28a91",
        content="sha256:a123c5f0c5634279701d8868bb209c165d061aa755ed5375cfde904491da27a0",
    ),
    license="GPL-2.0-or-later",
    license_files=("COPYING",),
    shared=True,
)


@dracut.build
def build(step: Step, board: Board) -> None:
    # This make writes beside its sources, and those are read-only.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    # What configure would say of the machine that builds.
    step.run("touch", "Makefile.inc")
    flags = (f"CFLAGS={' '.join(dracut.cflags)}", f"LDFLAGS={' '.join(dracut.ldflags(board))}")
    step.make("dracut-util", "dracut.pc", f"DRACUT_FULL_VERSION={dracut.version}", f"CC={board.cc}", *flags)


@dracut.install
def install(step: Step, board: Board) -> None:
    # `all` would be programs for the build machine.
    nothing = ("systemdsystemunitdir=", "configprofile=", "enable_documentation=no")
    # Its one way to bring up a network that is no daemon.
    network = "enable_network_legacy=yes"
    folders = ("prefix=/usr", "sysconfdir=/etc", f"DESTDIR={step.dest}")
    step.make("-o", "all", "install", network, *folders, *nothing, f"DRACUT_FULL_VERSION={dracut.version}")

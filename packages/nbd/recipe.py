from kiln import Board, Debian, Package, Step

nbd = Package(
    name="nbd",
    version="3.26.1",
    summary="disks of another machine; the client alone",
    source=Debian(
        "nbd_3.26.1.orig.tar.xz",
        sha256="f0cf509fa5b20b1a07f7904eb637e9b47d3e30b6ed6f00075af5d8b701c78fef",
        content="sha256:250c3f5f60159ab12eeb9b22fbe73dab86213cb787c5e62cbf2d8308179aa025",
    ),
    license="GPL-2.0-only",
    license_files=("COPYING",),
    shared=True,
    dracut=("nbd",),
)

SOURCES = "cliserv nbd-client nbdtab_lexer nbdtab_parser"


@nbd.build
def build(step: Step, board: Board) -> None:
    # Its configure wants GLib, which only the server uses.
    step.run("cp", "-f", step.input("files/config.h"), "config.h")
    sources = [f"{step.src}/{name}.c" for name in SOURCES.split()]
    words = ("-D_GNU_SOURCE", "-DNOTLS", '-DPROG_NAME="nbd-client"', f'-DPACKAGE_VERSION="{nbd.version}"')
    flags = (*words, "-I.", f"-I{step.src}", *nbd.cflags, *nbd.ldflags(board))
    step.run(board.cc, *flags, "-o", "nbd-client", *sources)


@nbd.install
def install(step: Step, board: Board) -> None:
    step.install("nbd-client", "usr/sbin/nbd-client", mode=0o755)

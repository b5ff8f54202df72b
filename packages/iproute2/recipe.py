from kiln import Board, Debian, Package, Step

iproute2 = Package(
    name="iproute2",
    version="6.1.0",
    summary="ip and ss: addresses, routes, links, name spaces and sockets",
    source=Debian(
        "iproute2_6.1.0.orig.tar.xz",
        sha256="5ce12a0fec6b212725ef218735941b2dab76244db7e72646a76021b0537b43ab",
        content="sha256:dfbf438dfd5ab6e058cff6fc7d97195612ba6558123c7270830ca1f312a6cbd0",
    ),
    license="GPL-2.0-only AND GPL-2.0-or-later",
    license_files=("COPYING",),
)


@iproute2.build
def build(step: Step, board: Board) -> None:
    # It builds in its source alone.
    step.run("cp", "-rf", "--no-preserve=mode", f"{step.src}/.", ".")
    env = {"CC": board.cc, "AR": f"{board.triple}-ar", "PKG_CONFIG": "false"}
    step.run("sh", "configure", env=env)
    step.make(SUBDIRS="lib ip misc", CCOPTS="-Os", LDFLAGS=" ".join(iproute2.ldflags(board)), SHARED_LIBS="n")


@iproute2.install
def install(step: Step, board: Board) -> None:
    # Where PATH looks before it comes to BusyBox's /sbin/ip.
    step.install("ip/ip", "usr/sbin/ip", mode=0o755)
    step.install("misc/ss", "usr/sbin/ss", mode=0o755)

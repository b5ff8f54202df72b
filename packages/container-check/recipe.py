from kiln import Board, Package, Step

container_check = Package(
    name="container-check",
    version="1",
    summary="tries in the guest what containers are made of",
    license="MIT",
    # The ip of BusyBox makes no veth, and names no network namespaces.
    runtime=("init", "iproute2", "iptables"),
)

# BusyBox's unshare knows no cgroup and time namespaces.
PROGRAM = "unshare-more"


@container_check.build
def build(step: Step, board: Board) -> None:
    flags = (*container_check.cflags, "-Wall", "-Wextra", "-Werror", *container_check.ldflags(board))
    step.run(board.cc, *flags, step.input(f"files/{PROGRAM}.c"), "-o", PROGRAM)


@container_check.install
def install(step: Step, board: Board) -> None:
    step.copy("files/container-check", "usr/bin/container-check", mode=0o755)
    step.install(PROGRAM, f"usr/lib/kiln/{PROGRAM}", mode=0o755)

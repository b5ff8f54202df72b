from kiln import Board, Package, Step

container_check = Package(
    name="container-check",
    version="1",
    summary="tries in the guest what containers are made of",
    license="MIT",
    # The ip of BusyBox makes no veth, and names no network namespaces.
    runtime=("init", "iproute2"),
)

# What no program of ours does: BusyBox's unshare knows no cgroup and time namespaces, and nothing here loads nf_tables.
PROGRAMS = ("unshare-more", "masquerade")


@container_check.build
def build(step: Step, board: Board) -> None:
    for name in PROGRAMS:
        flags = (*container_check.cflags, "-Wall", "-Wextra", "-Werror", *container_check.ldflags(board))
        step.run(board.cc, *flags, step.input(f"files/{name}.c"), "-o", name)


@container_check.install
def install(step: Step, board: Board) -> None:
    step.copy("files/container-check", "usr/bin/container-check", mode=0o755)
    for name in PROGRAMS:
        step.install(name, f"usr/lib/kiln/{name}", mode=0o755)

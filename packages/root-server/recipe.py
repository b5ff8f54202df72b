from kiln import Board, Package, Step

root_server = Package(
    name="root-server",
    version="1",
    summary="serves the first drive to other machines, as the kernel's command line says",
    license="MIT",
    libc=False,
    runtime=("init",),
)


@root_server.install
def install(step: Step, board: Board) -> None:
    step.copy("files/root-server", "usr/sbin/root-server", mode=0o755)
    step.write("etc/inittab.d/60-root-server", "::once:/usr/sbin/root-server\n")

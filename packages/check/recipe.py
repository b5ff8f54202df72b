from kiln import Board, Package, Step

check = Package(
    name="check",
    version="1",
    summary="tells a boot test whether the running system is whole",
    license="MIT",
    libc=False,
    runtime=("init",),
)


@check.install
def install(step: Step, board: Board) -> None:
    step.copy("files/check", "usr/lib/kiln/check", mode=0o755)

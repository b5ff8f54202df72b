from kiln import Board, Option, Package, Step

check = Package(
    name="check",
    version="1",
    summary="tells a boot test whether the running system is whole",
    license="MIT",
    libc=False,
    runtime=("init",),
    options={
        "off": Option(
            default="poweroff",
            choices=("poweroff", "reboot"),
            doc="how a test ends: a machine without a power switch ends by a reset",
        )
    },
)


@check.install
def install(step: Step, board: Board) -> None:
    step.copy("files/check", "usr/lib/kiln/check", mode=0o755)
    step.write("etc/kiln/off", f"{step.option('off')} -f\n")

from kiln import Board, Package, Step

early_init = Package(
    name="early-init",
    version="1",
    summary="the first program of an initramfs: finds the root of a disk or a CD, and switches to it",
    license="MIT",
    libc=False,
    runtime=("busybox",),
)

FOLDERS = ("dev", "proc", "run", "sys", "sysroot")


@early_init.install
def install(step: Step, board: Board) -> None:
    for folder in FOLDERS:
        step.folder(folder)
    step.copy("files/init", "init", mode=0o755)
    step.copy("files/root", "usr/lib/kiln/root")

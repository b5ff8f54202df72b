from kiln import Board, Package, Step

linux_modules = Package(
    name="linux-modules",
    version="1",
    summary="the modules of the board's kernel, and the names of those that it has built in",
    license="GPL-2.0-only WITH Linux-syscall-note",
    libs=("linux",),
    libc=False,
)


@linux_modules.install
def install(step: Step, board: Board) -> None:
    # A package of its own, so that a kernel with the same modules changes no root file system.
    step.folder("lib")
    step.run("cp", "-R", f"{step.sysroot}/lib/modules", f"{step.dest}/lib/modules")

from kiln import Board, Package, Step

linux_headers = Package(
    name="linux-headers",
    # Programs compiled against old headers run on every newer kernel, so boards with other kernels share these.
    version="6.1.176",
    summary="the kernel's interface for C programs",
    source="linux",
    license="GPL-2.0-only WITH Linux-syscall-note",
    license_files=("COPYING", "LICENSES/preferred/GPL-2.0", "LICENSES/exceptions/Linux-syscall-note"),
    libc=False,
)


@linux_headers.install
def install(step: Step, board: Board) -> None:
    arch = f"ARCH={board.arch.kernel}"
    step.run("make", "-C", step.src, f"O={step.build}", arch, "headers_install", f"INSTALL_HDR_PATH={step.dest}/usr")
    # A source tree that holds a build makes this go missing without an error.
    step.run("test", "-f", f"{step.dest}/usr/include/asm/types.h")

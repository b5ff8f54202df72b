from kiln import Board, Package, Step

toolchain = Package(
    name="toolchain",
    version="12",
    summary="the tools tree's GCC, turned to our own C library",
    license="MIT",
    libc=False,
)

BINUTILS = ("addr2line", "ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "size", "strings", "strip")


@toolchain.install
def install(step: Step, board: Board) -> None:
    # An image is static for the most part, and a program without position independence is a tenth smaller.
    gcc = f'exec /usr/bin/{board.arch.tools}gcc -fno-pie "$@" -specs=/tools/lib/{board.triple}.specs'
    step.write(f"bin/{board.triple}-gcc", f"#!/bin/sh\n{gcc}\n", mode=0o755)
    step.symlink(f"{board.triple}-gcc", f"bin/{board.triple}-cc")
    for name in BINUTILS:
        step.symlink(f"/usr/bin/{board.arch.tools}{name}", f"bin/{board.triple}-{name}")
    step.run("sh", "-c", 'mkdir -p "$2" && sed "s/LOADER/$3/" "$1" > "$2/$4.specs"', "sh",
             step.input("files/specs"), f"{step.dest}/lib", board.arch.loader, board.triple)  # fmt: skip

from kiln import Board, Package, Step

libucontext = Package(
    name="libucontext",
    version="1",
    summary="stands in for the switching of contexts, which musl has not and udev never does",
    license="MIT",
)


@libucontext.build
def build(step: Step, board: Board) -> None:
    step.run(board.cc, "-Os", "-c", step.input("files/ucontext.c"), "-o", "ucontext.o")
    step.run(f"{board.triple}-ar", "rcsD", "libucontext.a", "ucontext.o")


@libucontext.install
def install(step: Step, board: Board) -> None:
    step.install("libucontext.a", "usr/lib/libucontext.a")
    lines = ("Name: libucontext", "Description: a stand-in", "Version: 1", "Libs: -lucontext")
    step.write("usr/lib/pkgconfig/libucontext.pc", "".join(f"{line}\n" for line in lines))

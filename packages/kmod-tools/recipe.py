from kiln import Board, Package, Step

# For programs of the build machine: its own compiler makes it.
kmod_tools = Package(
    name="kmod-tools",
    version="34.2",
    summary="the library about kernel modules, for tools of the build machine",
    source="kmod",
    license="LGPL-2.1-or-later",
    license_files=("COPYING",),
    libc=False,
)

OFF = [f"-D{name}=disabled" for name in ("zstd", "xz", "zlib", "openssl")]
NOWHERE = [f"-D{shell}completiondir=no" for shell in ("bash", "fish", "zsh")]


@kmod_tools.configure
def configure(step: Step, board: Board) -> None:
    step.run("meson", "setup", "--buildtype=release", *OFF, *NOWHERE, "-Dmanpages=false", step.build, step.src)


@kmod_tools.build
def build(step: Step, board: Board) -> None:
    step.run("python3", step.script("ninja.py"), "libkmod-internal.a", "libshared.a")
    # That archive only names its objects; this one holds them.
    step.run("sh", "-c", "ar rcsD libkmod.a libkmod.so.*.p/*.o libshared.a.p/*.o")


@kmod_tools.install
def install(step: Step, board: Board) -> None:
    step.install("libkmod.a", "usr/lib/libkmod.a")
    step.run("install", "-D", "-m644", f"{step.src}/libkmod/libkmod.h", f"{step.dest}/usr/include/libkmod.h")

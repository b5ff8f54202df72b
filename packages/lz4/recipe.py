from kiln import Board, Debian, Package, Step

# For programs of the build machine: its own compiler makes it.
lz4 = Package(
    name="lz4",
    version="1.9.4",
    summary="a fast compression library, for tools of the build machine",
    source=Debian(
        "lz4_1.9.4.orig.tar.gz",
        sha256="0b0e3aa07c8c063ddf40b082bdf7e37a1562bda40a0ff5272957f3e987e0e54b",
        content="sha256:6b49722637ac5c583b9c155f9ef2c546bce165839fb61ab8406311a6bb0f921f",
    ),
    license="BSD-2-Clause",
    license_files=("lib/LICENSE",),
    libc=False,
)

ARGS = ("-C", "lib", "BUILD_SHARED=no", "PREFIX=/usr")


@lz4.build
def build(step: Step, board: Board) -> None:
    # This make writes beside its sources, and those are read-only.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    step.make(*ARGS, "liblz4.a", "liblz4.pc")


@lz4.install
def install(step: Step, board: Board) -> None:
    step.make(*ARGS, "install", f"DESTDIR={step.dest}")

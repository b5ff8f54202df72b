from kiln import Board, Debian, Package, Step

libaio = Package(
    name="libaio",
    version="0.3.113",
    summary="the kernel's asynchronous reads and writes, as a library",
    source=Debian(
        "libaio_0.3.113.orig.tar.gz",
        sha256="2c44d1c5fd0d43752287c9ae1eb9c023f04ef848ea8d4aafa46e9aedb678200b",
        content="sha256:2f033399bc4e28d4bbe4d57098fa5d66229df6b4e2e0a3882a21defbe2f9880d",
    ),
    license="LGPL-2.1-or-later",
    license_files=("COPYING",),
    shared=True,
)


@libaio.build
def build(step: Step, board: Board) -> None:
    # This make writes beside its sources, and those are read-only.
    step.run("rsync", "-a", "--chmod=u+w", f"{step.src}/", ".")
    # It adds to what the environment says, and not to its own command line.
    env = {"CC": board.cc, "AR": f"{board.triple}-ar", "CFLAGS": "-Os", "LDFLAGS": "-s"}
    step.run("make", cwd=f"{step.build}/src", env=env)


@libaio.install
def install(step: Step, board: Board) -> None:
    step.make("install", "-o", "all", f"prefix={step.dest}/usr", cwd=f"{step.build}/src")

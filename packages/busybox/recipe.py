from kiln import Board, Debian, Git, Kconfig, Step

busybox = Kconfig(
    name="busybox",
    version="1.37.0",
    summary="shell, init and 400 small utilities in one program",
    source=Git(
        "https://git.busybox.net/busybox",
        tag="1_37_0",
        commit="be7d1b7b1701d225379bc1665487ed0871b592a5",
        content="sha256:c60ab4953472785b291356906e154c8bd0f81481157eb441eaed5661021e7c83",
        mirrors=[
            Debian(
                "busybox_1.37.0.orig.tar.bz2",
                sha256="3311dff32e746499f4df0d5df04d7eb396382d7e108bb9250e7b519b837043a4",
            )
        ],
    ),
    license="GPL-2.0-only",
    license_files=("LICENSE",),
    defconfig="defconfig",
    fragments=("files/busybox.config",),
    update="oldconfig",
    # Said on the command line, the last two change no configuration.
    flags=lambda board: (
        f"CROSS_COMPILE={board.triple}-",
        "SKIP_STRIP=n",
        *(("CONFIG_STATIC=", "CONFIG_EXTRA_LDFLAGS=-no-pie") if board.libc == "shared" else ()),
    ),
)


@busybox.install
def install(step: Step, board: Board) -> None:
    step.run(*busybox.command(step, board, "install", f"CONFIG_PREFIX={step.dest}"))

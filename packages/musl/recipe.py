from kiln import Autotools, Board, Debian, Git, Step

musl = Autotools(
    name="musl",
    version="1.2.6",
    summary="the C library",
    source=Git(
        "https://git.musl-libc.org/git/musl",
        tag="v1.2.6",
        commit="9fa28ece75d8a2191de7c5bb53bed224c5947417",
        content="sha256:621a53f5ad8a200cdbf4a4a5d7dfbfe478cdfa9fc1d5c3affbf5f72f0963fdc2",
        mirrors=[
            Debian(
                "musl_1.2.6.orig.tar.gz",
                sha256="d585fd3b613c66151fc3249e8ed44f77020cb5e6c1e635a616d3f9f82460512a",
            )
        ],
    ),
    versions={
        "1.2.5": Git(
            "https://git.musl-libc.org/git/musl",
            tag="v1.2.5",
            commit="0784374d561435f7c787a555aeab8ede699ed298",
            content="sha256:58ef3989275384ba4a69e716cf3433f44cd1c2dfb31d9912a8c13f6708df33e6",
            mirrors=[
                Debian(
                    "musl_1.2.5.orig.tar.gz",
                    sha256="a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4",
                )
            ],
        )
    },
    license="MIT",
    license_files=("COPYRIGHT",),
    libc=False,
)


@musl.configure
def configure(step: Step, board: Board) -> None:
    paths = ("--prefix=/usr", "--syslibdir=/lib", "--disable-wrapper")
    step.configure(f"--target={board.triple}", *paths, env={"CROSS_COMPILE": board.arch.tools})

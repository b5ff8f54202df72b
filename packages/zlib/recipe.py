from kiln import Board, Debian, Package, Step

zlib = Package(
    name="zlib",
    version="1.3.1",
    summary="compression, as a library",
    source=Debian(
        "zlib_1.3.dfsg+really1.3.1.orig.tar.gz",
        sha256="60dd315c07f616887caa029408308a018ace66e3d142726a97db164b3b8f69fb",
        content="sha256:dd59ed74bf7fc43b6324aa070a2d53fd0b37fa29ae9ef999ed5aa0506ad18286",
    ),
    license="Zlib",
    license_files=("LICENSE",),
)


@zlib.configure
def configure(step: Step, board: Board) -> None:
    step.configure("--prefix=/usr", "--static", env={"CHOST": board.triple, "CFLAGS": "-Os"})


@zlib.build
def build(step: Step, board: Board) -> None:
    step.make("libz.a")


@zlib.install
def install(step: Step, board: Board) -> None:
    step.make("install", DESTDIR=step.dest)

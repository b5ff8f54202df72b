from kiln import Autotools, Board, Debian, Step

iptables = Autotools(
    name="iptables",
    version="1.8.9",
    summary="the packet filter: which packets pass, and under which address",
    source=Debian(
        "iptables_1.8.9.orig.tar.xz",
        sha256="ef6639a43be8325a4f8ea68123ffac236cb696e8c78501b64e8106afb008c87f",
        content="sha256:4bbd1eb9559ce133a9e133847ebfe55571cc49578ac4a2ddd500e4d711a79d54",
    ),
    license="GPL-2.0-or-later",
    license_files=("COPYING",),
    # Its extensions are in the program. That for nf_tables would want two libraries more.
    args=("--disable-nftables", "--disable-shared", "--enable-static", "--disable-devel"),
)


@iptables.build
def build(step: Step, board: Board) -> None:
    # libtool takes -static for what it says of libraries alone.
    step.make("LDFLAGS=-all-static -s")


@iptables.install
def install(step: Step, board: Board) -> None:
    iptables.style_install(step, board)
    step.run("rm", "-rf", f"{step.dest}/usr/lib", f"{step.dest}/usr/share")

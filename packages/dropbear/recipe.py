from kiln import Autotools, Board, Debian, Step

dropbear = Autotools(
    name="dropbear",
    version="2025.89",
    summary="a small ssh server and client",
    source=Debian(
        "dropbear_2025.89.orig.tar.bz2",
        sha256="0d1f7ca711cfc336dc8a85e672cab9cfd8223a02fe2da0a4a7aeb58c9e113634",
        content="sha256:d4dd0dcafaee28f90c75d0c5e3db04b2485cd8596443281d0af5b246be4f2719",
    ),
    license="MIT AND BSD-2-Clause AND SSH-OpenSSH AND Unlicense",
    license_files=("LICENSE", "libtomcrypt/LICENSE", "libtommath/LICENSE"),
    libs=("zlib",),
    args=(
        "--enable-bundled-libtom", "--disable-lastlog", "--disable-utmp", "--disable-utmpx",
        "--disable-wtmp", "--disable-wtmpx", "--disable-pututline", "--disable-pututxline",
    ),
)  # fmt: skip

PROGRAMS = {"dropbear": "usr/sbin", "dropbearkey": "usr/bin", "dbclient": "usr/bin", "scp": "usr/bin"}


@dropbear.configure
def configure(step: Step, board: Board) -> None:
    # Without these, it makes its programs independent of their position, which its libraries are not.
    dropbear.style_configure(step, board, "--disable-harden" if dropbear.is_linked(board) else "--enable-static")


@dropbear.build
def build(step: Step, board: Board) -> None:
    step.make(PROGRAMS=" ".join(PROGRAMS), SCPPROGRESS="1")


@dropbear.install
def install(step: Step, board: Board) -> None:
    for name, folder in PROGRAMS.items():
        step.install(name, f"{folder}/{name}", mode=0o755)
    step.folder("etc/dropbear")
    # -R makes a host key when the first client asks for one of its kind, -s takes no passwords, -F stays init's child.
    step.write("etc/inittab.d/50-sshd", "::respawn:/usr/sbin/dropbear -F -R -s -P /run/dropbear.pid\n")

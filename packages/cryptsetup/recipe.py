from kiln import Board, Debian, Meson, Step

cryptsetup = Meson(
    name="cryptsetup",
    version="2.7.5",
    summary="encrypted disks",
    source=Debian(
        "cryptsetup_2.7.5.orig.tar.gz",
        sha256="66f82757456411353216def2e93ee6f82e1dc5c8b583cb9b1c84ecb918b60980",
        content="sha256:88382798472f2e1f93f00649cef87b0832499c19ced3bd1ea6e745f6092d207d",
    ),
    license="GPL-2.0-or-later AND LGPL-2.1-or-later",
    license_files=("COPYING", "COPYING.LGPL"),
    libs=("json-c", "lvm2", "popt", "util-linux"),
    dracut=("crypt",),
    shared=True,
    settings={
        "crypto-backend": "kernel",
        "argon-implementation": "internal",
        "asciidoc": "disabled",
        **dict.fromkeys(("external-tokens", "integritysetup", "nls", "ssh-token", "veritysetup"), False),
    },
)


@cryptsetup.install
def install(step: Step, board: Board) -> None:
    cryptsetup.style_install(step, board)
    # Its Meson builds the program, and forgets to install it.
    step.install("src/cryptsetup", "usr/sbin/cryptsetup", mode=0o755)
    step.run(f"{board.triple}-strip", f"{step.dest}/usr/sbin/cryptsetup")

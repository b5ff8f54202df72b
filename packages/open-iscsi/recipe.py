from kiln import Board, Debian, Meson, Step

open_iscsi = Meson(
    name="open-iscsi",
    version="2.1.13",
    summary="disks of another machine, by SCSI over TCP",
    source=Debian(
        "open-iscsi_2.1.13.orig.tar.gz",
        sha256="2b06968d7d744ac4d13c20f5b6420f550c05e0ad1e097aaef55bb30e877a6a24",
        content="sha256:54ae15ff7d587c36253fe9bac7a4e1d85cbdf7ebac664f5f2db0547cba6b683d",
    ),
    license="GPL-2.0-only AND GPL-2.0-or-later AND LGPL-3.0-or-later",
    license_files=("COPYING", "libopeniscsiusr/COPYING"),
    libs=("kmod", "util-linux"),
    shared=True,
    dracut=("iscsi",),
    settings={"isns": "disabled", "no_systemd": True},
)


@open_iscsi.install
def install(step: Step, board: Board) -> None:
    open_iscsi.style_install(step, board)
    # Its manual says in which month it was built.
    step.run("rm", "-rf", f"{step.dest}/usr/share/man")

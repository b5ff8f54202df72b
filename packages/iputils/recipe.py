from kiln import Board, Debian, Git, Meson, Step

iputils = Meson(
    name="iputils",
    version="20250605",
    summary="ping, arping, tracepath and clockdiff",
    source=Git(
        "https://github.com/iputils/iputils",
        tag="20250605",
        commit="6e1cb146547eb6fbb127ffc8397a9241be0d33c2",
        content="sha256:9f45de0f2ee5b5f227977c1bcf828b4904bd92e3ad01f3326c5ae5db51339e19",
        mirrors=[
            Debian(
                "iputils_20250605.orig.tar.xz",
                sha256="2343570656f3cfc191eedd887fd8b5b78f68d0b68e59f2d45b17209cdcfd35a3",
            )
        ],
    ),
    license="BSD-3-Clause AND GPL-2.0-or-later",
    license_files=("LICENSE", "Documentation/LICENSE.BSD3", "Documentation/LICENSE.GPL2"),
    settings={"USE_CAP": False, "USE_IDN": False, "USE_GETTEXT": False, "BUILD_MANS": False, "SKIP_TESTS": True},
    capabilities={"usr/bin/ping": ("cap_net_raw",)},
)


@iputils.install
def install(step: Step, board: Board) -> None:
    iputils.style_install(step, board)
    # BusyBox's lies in /usr/sbin, which PATH has before /usr/bin.
    step.folder("usr/sbin")
    step.run("mv", f"{step.dest}/usr/bin/arping", f"{step.dest}/usr/sbin")

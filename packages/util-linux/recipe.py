from kiln import Debian, Meson

LICENSES = ("BSD-2-Clause", "BSD-3-Clause", "GPL-2.0-only", "GPL-2.0-or-later", "ISC", "LGPL-2.1-or-later", "MIT")

util_linux = Meson(
    name="util-linux",
    version="2.41.5",
    summary="mount, blkid, losetup, switch_root and their like, and the libraries under them",
    source=Debian(
        "util-linux_2.41.5.orig.tar.xz",
        sha256="f586e35d320ff537aab3ffeca37e9ecd482ccbe013590db4429a414d8aa6a728",
        content="sha256:aa973f73e2e06ecccaffd725204cfd33493561fda811ec9c1c212b4737571b2a",
    ),
    license=" AND ".join(LICENSES),
    license_files=("COPYING", *(f"Documentation/licenses/COPYING.{name}" for name in LICENSES)),
    shared=True,
    settings={
        "auto_features": "disabled",
        **dict.fromkeys(("build-libblkid", "build-libuuid", "build-libmount", "build-libsmartcols"), "enabled"),
        **dict.fromkeys(
            (f"build-{name}" for name in ("mount", "losetup", "switch_root", "findmnt", "blockdev", "fsck", "partx")),
            "enabled",
        ),
        "build-python": "disabled",
        "program-tests": False,
    },
)

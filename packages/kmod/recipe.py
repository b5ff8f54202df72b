from kiln import Debian, Meson

kmod = Meson(
    name="kmod",
    version="34.2",
    summary="loads kernel modules",
    source=Debian(
        "kmod_34.2.orig.tar.xz",
        sha256="012d16e2099115486d8aa9f2c2a23d058d3d0cad83113a60512647d25d3869e8",
        content="sha256:212ffe838dc08064f02ef51f0f9317fd5c4c1ec3d80202c4657c6989c135e6e2",
    ),
    license="LGPL-2.1-or-later AND GPL-2.0-or-later",
    license_files=("COPYING",),
    shared=True,
    # Our modules are not compressed.
    settings={
        **dict.fromkeys(("zstd", "xz", "zlib", "openssl"), "disabled"),
        **dict.fromkeys(("bashcompletiondir", "fishcompletiondir", "zshcompletiondir"), "no"),
        "manpages": False,
    },
)

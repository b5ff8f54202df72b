from kiln import Autotools, Debian

popt = Autotools(
    name="popt",
    version="1.19",
    summary="reads command lines, as a library",
    source=Debian(
        "popt_1.19+dfsg.orig.tar.xz",
        sha256="4cd0cd2963d0c4078f65949599d97135c15ee6c09cf3a36a9a1b2753025bb06b",
        content="sha256:51a33fb35ea26b571b13a6b125c93960107d8463b9200a0f75c97bcd16304c28",
    ),
    license="MIT",
    license_files=("COPYING",),
    shared=True,
    args=("--disable-static", "--disable-nls"),
)

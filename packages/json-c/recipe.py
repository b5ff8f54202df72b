from kiln import Board, Debian, Package, Step

json_c = Package(
    name="json-c",
    version="0.18",
    summary="JSON, as a library",
    source=Debian(
        "json-c_0.18+ds.orig.tar.xz",
        sha256="f6439962c9622c1f9f4746d5b3daf5e0800c335281b048fab00159f2a29d7daa",
        content="sha256:315a8f73d31d0dd07e90090da529efc5f00bbbc51385de9d28f35aba32aee0e2",
    ),
    license="MIT",
    license_files=("COPYING",),
    shared=True,
)

SOURCES = """
    arraylist debug json_c_version json_object json_object_iterator json_patch json_pointer json_tokener json_util
    json_visit libjson linkhash printbuf random_seed strerror_override
"""
LIBRARY = "libjson-c.so.5"
HEADER = r's/@JSON_H_JSON_\(POINTER\|PATCH\)@/#include "json_\L\1.h"/'
PKG_CONFIG = f"""\
Name: json-c
Description: {json_c.summary}
Version: {json_c.version}
Libs: -ljson-c
Cflags: -I/usr/include/json-c
"""


@json_c.build
def build(step: Step, board: Board) -> None:
    # It is built by CMake alone, which would be one more tool for a dozen files.
    step.run("cp", step.input("files/config.h"), "config.h")
    step.run("sh", "-c", "printf '#define JSON_C_HAVE_%s_H 1\\n' INTTYPES STDINT > json_config.h")
    step.run("sh", "-c", 'sed "$1" "$2" > json.h', "sh", HEADER, f"{step.src}/json.h.cmakein")
    sources = [f"{step.src}/{name}.c" for name in SOURCES.split()]
    flags = ("-D_GNU_SOURCE", "-I.", f"-I{step.src}", *json_c.cflags, *json_c.ldflags(board))
    step.run(board.cc, "-shared", f"-Wl,-soname,{LIBRARY}", *flags, "-o", LIBRARY, *sources)


@json_c.install
def install(step: Step, board: Board) -> None:
    step.install(LIBRARY, f"usr/lib/{LIBRARY}", mode=0o755)
    step.symlink(LIBRARY, "usr/lib/libjson-c.so")
    step.write("usr/lib/pkgconfig/json-c.pc", PKG_CONFIG)
    headers = f"{step.dest}/usr/include/json-c"
    step.run("mkdir", "-p", headers)
    step.run("sh", "-c", 'cp json.h json_config.h "$1"/[adjlp]*.h "$2"', "sh", step.src, headers)

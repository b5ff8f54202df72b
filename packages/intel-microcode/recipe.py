from kiln import Board, Debian, Package, Step

intel_microcode = Package(
    name="intel-microcode",
    version="20251111",
    summary="what corrects Intel's processors, for the early segment of an initramfs",
    # Debian's package, since its files are those of Intel, and nothing is compiled.
    source=Debian(
        "intel-microcode_3.20251111.1~deb12u1_amd64.deb",
        sha256="0c3227e105b4b7dd857159afe45d06ca602954d562c681430bdce866f23e1d40",
        content="sha256:459b97ebe4feba8f12030880ae1c67b3a99d6632f2f854e2aa3e15075d1cc84b",
        component="non-free-firmware",
    ),
    license="LicenseRef-Intel-Microcode",
    license_files=("usr/share/doc/intel-microcode/copyright",),
    libc=False,
)

# An update for several processors lies there under the name of each: one of them is enough.
JOIN = """\
cd "$1" && mkdir -p "${2%/*}"
sha256sum * | sort | awk '!seen[$1]++ { print $2 }' | sort | xargs cat > "$2"
"""


@intel_microcode.install
def install(step: Step, board: Board) -> None:
    place = f"{step.dest}/kernel/x86/microcode/GenuineIntel.bin"
    step.run("sh", "-e", "-c", JOIN, "sh", f"{step.src}/lib/firmware/intel-ucode", place)

from kiln import Board, Debian, Package, Step

amd_microcode = Package(
    name="amd-microcode",
    version="20250311",
    summary="what corrects AMD's processors, for the early segment of an initramfs",
    # Debian's package, since its files are those of AMD, and nothing is compiled.
    source=Debian(
        "amd64-microcode_3.20250311.1~deb12u1_amd64.deb",
        sha256="794a7e83a5955d7dea68cf912387eb78fe61bf651057c99e3d3386f7a320a359",
        content="sha256:c9fa6e92e7c4889cecfcf928cf36f50d2c362c4e5b90f035ef403d38256de23a",
        component="non-free-firmware",
    ),
    license="LicenseRef-AMD-Microcode",
    license_files=("usr/share/doc/amd64-microcode/copyright",),
    libc=False,
)

JOIN = 'mkdir -p "${2%/*}" && cat "$1"/microcode_amd*.bin > "$2"'


@amd_microcode.install
def install(step: Step, board: Board) -> None:
    place = f"{step.dest}/kernel/x86/microcode/AuthenticAMD.bin"
    step.run("sh", "-e", "-c", JOIN, "sh", f"{step.src}/lib/firmware/amd-ucode", place)

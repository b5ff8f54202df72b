"""Figures of this checkout, for `make bench`: whole commands, each timed as a user would wait for it.

``--cold`` also builds everything from an empty store and empty downloads, which takes minutes and needs the network.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "output/qemu-x86_64"
RUNS = 5


def doit(*words: str, env: dict[str, str] | None = None) -> float:
    """Seconds of a run of doit."""
    start = time.monotonic()
    command = [sys.executable, "-m", "doit", *words]
    subprocess.run(command, cwd=ROOT, env=dict(os.environ) | (env or {}), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def median(measure: Callable[[], float]) -> str:
    times = sorted(measure() for _ in range(RUNS))
    return f"{statistics.median(times):6.2f} s   ({times[0]:.2f} to {times[-1]:.2f}, {RUNS} runs)"


def show(what: str, value: str) -> None:
    print(f"{what:<44} {value}", flush=True)


def overlay_edit() -> float:
    """From a new file in the board's overlay to a new disk."""
    note = ROOT / "board/qemu-x86_64/overlay/bench"
    made = [folder for folder in (note.parent, note.parent.parent) if not folder.exists()]
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{time.time()}\n")
    try:
        return doit("disk")
    finally:
        note.unlink()
        for folder in made:
            folder.rmdir()


def boot() -> float:
    doit("test:cpio", env={"KILN_ACCEL": "tcg"})
    lines = (OUTPUT / "boot/cpio.log").read_text().splitlines()
    marker = next(line for line in lines if "KILN-CHECK" in line and line.endswith(" ok"))
    return float(marker[1:].split("]")[0])


def cold(folder: Path) -> None:
    """Everything from nothing: time, how busy the processors are while building, and the most room taken."""
    env = {"KILN_STORE": str(folder / "store"), "KILN_DOWNLOADS": str(folder / "downloads")}
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(5):
            used = subprocess.run(["du", "-sk", folder], capture_output=True, text=True).stdout.split()
            peak = max(peak, int(used[0]) if used else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fetch = doit(
            "tools:sandbox", "tools:build", "tools:image", "linux:fetch", "musl:fetch", "busybox:fetch", env=env
        )
        busy, idle = processors()
        build = doit("image", env=env)
        busy, idle = (after - before for after, before in zip(processors(), (busy, idle), strict=True))
        again = doit("image", env=env)
    finally:
        stop.set()
        watcher.join()
    show("image, from nothing", f"{fetch + build:6.0f} s, {fetch:.0f} s of it to fetch and unpack")
    show("  processors busy while it builds", f"{100 * busy / (busy + idle):6.0f} %, whoever keeps them so")
    show("  most room taken", f"{peak / 1e6:6.1f} GB")
    show("  a second run, against the first", f"1 : {(fetch + build) / again:.0f}")


def processors() -> tuple[int, int]:
    """Ticks that all processors were busy and idle: a sandbox's own do not reach its parent's account."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", action="store_true", help="build everything from nothing too")
    arguments = parser.parse_args()
    doit("image")
    show("image, nothing to do", median(lambda: doit("image")))
    show("an overlay file edited, to a new disk", median(overlay_edit))
    doit("image")
    show("kernel + cpio under emulation, to the marker", median(boot))
    for name in ("bzImage", "rootfs.cpio.zst"):
        show(name, f"{(OUTPUT / name).stat().st_size / 1e6:6.2f} MB")
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "kiln").rglob("*.py"))
    show("the engine", f"{lines:6d} lines")
    if arguments.cold:
        with tempfile.TemporaryDirectory(dir=ROOT / "output", ignore_cleanup_errors=True) as folder:
            cold(Path(folder))
            subprocess.run(["chmod", "-R", "u+w", folder], check=True)


if __name__ == "__main__":
    main()

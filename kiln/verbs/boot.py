"""Boot a board: as its user does, as a test, and to find out what went wrong."""

import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from kiln import process
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.vm.check import boot_and_check
from kiln.vm.diagnose import diagnose as find_out
from kiln.vm.diagnose import read, render, started
from kiln.vm.qemu import Boot, command, find_qemu, with_free_ports
from kiln.vm.road import Request
from kiln.vm.roads import ROADS
from kiln.vm.setup import Setup


def qemu(graph: Graph, road: str, append: str, tap: str) -> None:
    """Boot an image as its user would, with the console on this terminal; Ctrl-A X ends the machine.

    ``tap`` is an interface of this machine that it is connected to, instead of QEMU's own network.
    """
    with ExitStack() as stack:
        boot = _boot(graph, road, append, stack)
        program, kvm = find_qemu(graph)
        machine = with_free_ports(graph.board.machine)
        argv = command(machine, boot, program=program, kvm=kvm, interactive=True, tap=tap)
        print(shlex.join(argv), flush=True)
        for host, _, guest in (pair.partition(":") for pair in machine.forward if not tap):
            print(f"port {guest} of the guest is 127.0.0.1:{host} here", flush=True)
        if boot.told:
            print(boot.told, flush=True)
        graph.store.release()
        process.run(argv, interactive=True)


def test(graph: Graph, road: str) -> None:
    """Boot an image to the check inside it, and keep the serial log with the host's times."""
    log = graph.image.output / "boot" / f"{road}.log"
    with graph.jobserver.slot(), ExitStack() as stack:
        boot = _boot(graph, road, "", stack)
        program, kvm = find_qemu(graph)
        found = boot_and_check(graph.board.machine, boot, program=program, kvm=kvm, log=log, setup=Setup.of(graph))
    place = os.path.relpath(log, graph.settings.root)
    if not found.ok:
        hint = f"{found.hint}\n  " if found.hint else ""
        raise KilnError(f"{road} did not boot: {found.reason}", hint=f"{hint}log      {place}")
    print(f"ok      {graph.board.name} by {road}: {found.reason}  {place}", flush=True)


def diagnose(graph: Graph, *places: str) -> None:
    """Say what went wrong in a boot: from its log, standard input (-), or the newest boot test of the board."""
    if len(places) > 1:
        raise KilnError("name one log", hint="doit diagnose LOG")
    try:
        text = sys.stdin.read() if places == ("-",) else _log(graph, *places).read_text(errors="replace")
    except OSError as error:
        raise KilnError(f"cannot read the log: {error.strerror}", where=error.filename) from error
    log = read(text)
    findings = find_out(log, Setup.of(graph))
    print("\n".join(render(log, findings)), flush=True)
    wrong = sum(finding.level != "note" for finding in findings)
    if wrong:
        raise KilnError(f"{wrong} thing{'s' * (wrong > 1)} went wrong in this boot")
    if not started(log) and any("Linux version" in line for _, line in log):
        raise KilnError("this boot stopped before its first program", hint="its last lines are above")


def _log(graph: Graph, *places: str) -> Path:
    logs = [Path(place) for place in places] or sorted(
        (graph.image.output / "boot").glob("*.log"), key=lambda path: path.stat().st_mtime
    )
    if not logs:
        raise KilnError(f"there is no log of a boot of {graph.board.name} yet", hint="doit test, or doit diagnose LOG")
    if not places:
        print(os.path.relpath(logs[-1], graph.settings.root), flush=True)
    return logs[-1]


def _boot(graph: Graph, road: str, append: str, stack: ExitStack) -> Boot:
    """What the machine is given, until ``stack`` is closed."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return ROADS[road].boot(Request(graph=graph, road=road, append=append, scratch=scratch, stack=stack))

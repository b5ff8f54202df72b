"""doit's commands, with our way of telling mistakes and of stopping: ``run``, ``dev`` and ``info``."""

import gc
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from doit import doit_cmd
from doit.cmd_info import Info as DoitInfo
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand

from kiln import board, process
from kiln.errors import KilnError, nearest
from kiln.report.plan import plan
from kiln.tasks import Fresh

_INTERRUPTED = 130
# What BOARD= says for every board, one after the other.
_EVERY = "all"


class Run(DoitRun):  # type: ignore[misc]
    """Runs tasks. Errors are told without a traceback; a signal ends every program that we started."""

    doc_purpose = "run tasks"

    def execute(self, params: Any, args: list[str]) -> int:
        if doit_cmd.get_var("BOARD") == _EVERY:
            return _each_board()
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        gc.disable()  # tasks and targets live to the end, and looking for garbage among thousands takes seconds
        Fresh.asked = args
        try:
            result: int = super().execute(params, args)
            return result
        except KilnError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            return 3
        except InvalidCommand as error:
            if not error.not_found:
                raise
            known = [task.name for task in self.task_list]
            print(f"ERROR: there is no task {error.not_found!r}\n  {nearest(error.not_found, known)}", file=sys.stderr)
            return 3
        except KeyboardInterrupt:
            print("\nstopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
            return _INTERRUPTED


class Dev(Run):
    """``doit dev PACKAGE SRC=folder [TASK ...]`` is ``doit DEV=PACKAGE SRC=folder [TASK ...]``, in words."""

    name = "dev"
    doc_purpose = "build with a package from your own working tree"
    doc_usage = "PACKAGE SRC=FOLDER [TASK ...]"
    doc_description = (
        "Builds the package from the folder SRC as it is, in a build folder that is kept, so that only what you\n"
        "changed is compiled; then runs the tasks (the package and image, where none is named). All that is made\n"
        "from it is marked as local, lies in output/local and output/BOARD-local, and never in the store.\n\n"
        "    doit dev linux SRC=~/src/linux\n"
        "    doit dev linux SRC=~/src/linux qemu"
    )

    def execute(self, params: Any, args: list[str]) -> int:
        if not args or not doit_cmd.get_var("SRC"):
            print("ERROR: name a package and its working tree\n  doit dev PACKAGE SRC=FOLDER", file=sys.stderr)
            return 3
        doit_cmd.set_var("DEV", args[0])
        return super().execute(params, args[1:] or [args[0], "image"])


class Info(DoitInfo):  # type: ignore[misc]
    """Shows the plan of what is built, and doit's own account of other tasks."""

    doc_purpose = "show the plan of a task: what it is made from, by which commands, and whether it is up to date"

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        tasks = {task.name: task for task in self.task_list}
        for name in pos_args:
            if name not in tasks:
                raise InvalidCommand(f"there is no task {name!r}\n  {nearest(name, tasks)}")
        named = [name for task in pos_args for name in (tasks[task].task_dep if tasks[task].has_subtask else [task])]
        targets = [tasks[name].actions[0].target for name in named if tasks[name].actions]
        if not named or len(targets) != len(named) or None in targets:
            result: int = super()._execute(pos_args, hide_status)
            return result
        for target in targets:
            print("\n".join(plan(target)))
        return 0 if all(target.entry() for target in targets) else 1


def _each_board() -> int:
    """The same command for every board, one after the other; the status of the last one that failed."""
    failed = 0
    for name in board.names(Path.cwd()):
        words = [f"BOARD={name}" if word == f"BOARD={_EVERY}" else word for word in sys.argv[1:]]
        print(f"== {name}", flush=True)
        child = process.start([sys.executable, "-m", "doit", *words], stdin=None)
        for number in (signal.SIGTERM, signal.SIGINT):  # it ends what it started, and says so
            signal.signal(number, lambda *_, child=child: child.terminate())
        failed = child.wait() or failed
        if failed == _INTERRUPTED:
            break
    return failed


def _stop(_signal: int, _frame: FrameType | None) -> None:
    process.stop_all()
    raise KeyboardInterrupt

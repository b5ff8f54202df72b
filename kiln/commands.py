"""``doit run``, with our way of telling mistakes and of stopping."""

import signal
import sys
from types import FrameType
from typing import Any

from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand

from kiln import process
from kiln.errors import KilnError, nearest

_INTERRUPTED = 130


class Run(DoitRun):  # type: ignore[misc]
    """Runs tasks. Errors are told without a traceback; a signal ends every program that we started."""

    doc_purpose = "run tasks"

    def execute(self, params: Any, args: list[str]) -> int:
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
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


def _stop(_signal: int, _frame: FrameType | None) -> None:
    process.stop_all()
    raise KeyboardInterrupt

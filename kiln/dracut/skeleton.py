"""The first files of a module of dracut: a hook for every stage, to be filled or removed."""

import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path

from kiln.board import Board
from kiln.errors import KilnError

_NAME = re.compile(r"[a-z][a-z0-9-]*")

_SETUP = """\
#!/bin/bash
# What dracut takes into the initramfs for NAME. Only this file is read while the initramfs is made.

# Whether it can be had here: 0 for yes.
check() {
    return 0
}

# Further modules that it needs, such as: echo lvm
depends() {
    return 0
}

# Programs: inst_multiple COMMAND... Other files: inst_simple /PATH. A hook without its line is left out.
install() {
HOOKS
}
"""
_HOOK = """\
#!/bin/sh
# DOC
# /init itself reads this: `return` ends it early, `exit` would end /init, and the boot with it.

BODY
"""
_CONF = """\
# A module of this board: dracut/modules.d/FOLDER
add_dracutmodules+=" NAME "
"""

# When each stage is, in the order in which a boot comes to them.
STAGES = {
    "cmdline": "Before there are devices: reads the kernel's command line, and may set root.",
    "pre-udev": "Before udev starts: may write its rules.",
    "pre-trigger": "Before udev looks at the devices that are there already: may set its properties.",
    "initqueue": "While devices appear, unless nothing is waited for.",
    "initqueue/settled": "While devices appear, whenever udev has nothing to do, unless nothing is waited for.",
    "initqueue/finished": "Says whether the boot can go on: it is asked again and again, in a shell of its own.",
    "pre-mount": "All devices are there, and the root is not mounted.",
    "mount": "May mount the root at $NEWROOT; else dracut does. Runs again and again until that is done.",
    "pre-pivot": "The root is mounted at $NEWROOT: the last stage to change something in it.",
    "cleanup": "Right before the first program of the root starts: ends what was started here.",
}
_SAY = 'info "NAME: STAGE"'
_BODY = f"{_SAY}\n# Your commands."
_ONCE = f'{_SAY}\nrm -f "$job"  # so that it runs once, and not in each round of the waiting\n# Your commands.'
_BODIES = {
    "initqueue": _ONCE,
    "initqueue/settled": _ONCE,
    "initqueue/finished": f"# Your commands: `return 1` for as long as something is missing.\n{_SAY}",
}


def create(name: str, board: Board, known: Collection[str]) -> list[str]:
    """Write a module, and the configuration that has it included; returns what to tell the user.

    Raises KilnError for what is no name, or that of a ``known`` module. What is there is never written over.
    """
    if not _NAME.fullmatch(name):
        raise KilnError(f"{name!r} is no name of a module", where="NAME", hint="use a-z, 0-9 and '-', a letter first")
    folder = board.files / "dracut/modules.d" / f"90{name}"
    conf = board.files / "dracut.conf.d" / f"{name}.conf"
    for path in (folder, conf):
        if path.exists():
            raise KilnError("is there already, and is left as it is", where=_place(path, board))
    if name in known:
        hint = f"take another name, such as my-{name}"
        raise KilnError(f"dracut has a module {name} already", where="NAME", hint=hint)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the modules, nobody takes it for one before it is whole.
        with tempfile.TemporaryDirectory(dir=folder.parent.parent, prefix=".new-") as scratch:
            made = Path(scratch, folder.name)
            made.mkdir()
            for file, text in _texts(name).items():
                (made / file).write_text(text)
            made.rename(folder)
        conf.parent.mkdir(exist_ok=True)
        conf.write_text(_CONF.replace("FOLDER", folder.name).replace("NAME", name))
    except OSError as error:
        raise KilnError(error.strerror or str(error), where=_place(folder, board)) from error
    lines = [
        f"wrote    {_place(folder, board)}/: module-setup.sh, and a hook for each of {len(STAGES)} stages",
        f"wrote    {_place(conf, board)}: has it included in the initramfs",
        "then     write your commands into the hooks, and remove those that you do not need, with their lines in"
        " module-setup.sh",
    ]
    if board.initramfs != "dracut":
        lines.append(f'then     set initramfs = "dracut" in configs/{board.name}.toml')
    return [*lines, f"then     doit initramfs BOARD={board.name}"]


def _texts(name: str) -> dict[str, str]:
    """The files of a module."""
    # They come into one folder with the hooks of other modules.
    files = {stage: f"NAME-{stage.replace('/', '-')}.sh" for stage in STAGES}
    hooks = "\n".join(f'    inst_hook {stage} 50 "$moddir/{file}"' for stage, file in files.items())
    texts = {"module-setup.sh": _SETUP.replace("HOOKS", hooks)}
    for stage, file in files.items():
        body = _BODIES.get(stage, _BODY).replace("STAGE", stage)
        texts[file] = _HOOK.replace("DOC", STAGES[stage]).replace("BODY", body)
    return {file.replace("NAME", name): text.replace("NAME", name) for file, text in texts.items()}


def _place(path: Path, board: Board) -> str:
    return os.fspath(path.relative_to(board.root))

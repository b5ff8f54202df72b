"""What a board asks for early in its initramfs: a first segment that is not compressed, and nowhere else."""

import pytest

from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.image.media import Initramfs
from kiln.initramfs import segments
from kiln.initramfs.view import View
from kiln.recipe.step import LICENSES
from kiln.target import closure
from tests.project import Project

CODE = "kernel/x86/microcode/AuthenticAMD.bin"
INSTALL = "@package.install\ndef install(step, board):\n"


def recipes(project: Project, *lines: str, early: str = 'early = ["code"]') -> None:
    """A small initramfs, and a package whose files are for the early segment; ``lines`` are what that installs."""
    project.recipe("busybox", phases=f"{INSTALL}    step.write('bin/busybox', 'box', mode=0o755)")
    project.recipe("early-init", phases=f"{INSTALL}    step.write('init', '#!/bin/busybox sh\\n', mode=0o755)")
    body = "".join(f"    {line}\n" for line in lines or (f"step.write('{CODE}', 'microcode')",))
    project.recipe("code", phases=f"{INSTALL}    step.write('{LICENSES}/code/terms', 'no reverse engineering')\n{body}")
    project.board(packages=["busybox"], more=f'loader = "none"\nimages = ["cpio", "initramfs"]\n{early}\n')


def initramfs(graph: Graph) -> Initramfs:
    found = graph.media["initramfs"]
    assert isinstance(found, Initramfs)
    return found


def made(graph: Graph) -> Initramfs:
    target = initramfs(graph)
    for part in closure(target):
        if not part.entry():
            part.build()
    return target


def test_the_package_is_a_part_of_every_initramfs_and_of_nothing_else(project: Project) -> None:
    recipes(project)
    graph = project.graph()
    users = {target.id for target in graph.targets if any(dep.id == "code:build" for dep in target.deps)}
    assert users == {"initramfs", "licenses"}
    assert initramfs(graph).inputs()["parts"].keys() == {"busybox", "early-init", "code"}
    recipes(project, early="early = []")
    graph = project.graph()
    assert not any(dep.id == "code:build" for target in graph.targets for dep in target.deps)


@pytest.mark.sandbox
def test_it_is_the_first_segment_and_not_compressed(real_project: Project) -> None:
    recipes(real_project)
    target = made(real_project.graph())
    found = [(segment.compressor, [entry.name for entry in segment]) for segment in segments.read(target.file)]
    (early, names), (main, others) = found
    assert (early, main) == ("none", "zstd")
    assert names == [".", "kernel", "kernel/x86", "kernel/x86/microcode", CODE, "TRAILER!!!"]
    assert not any(name.startswith("kernel") for name in others)
    # Where every segment but the last one must end.
    assert target.file.read_bytes().index(b"\x28\xb5\x2f\xfd") % 512 == 0
    assert View.read(target.file, keep=True).files[CODE].data == b"microcode"
    assert target.built().notes["packages"] == {CODE: "code", "bin/busybox": "busybox", "init": "early-init"}
    main_alone = b"".join(segments.content(target.file))
    assert main_alone.startswith(b"070701") and CODE.encode() not in main_alone


@pytest.mark.sandbox
def test_its_content_makes_another_initramfs(real_project: Project) -> None:
    recipes(real_project)
    before = made(real_project.graph()).key()
    recipes(real_project, f"step.write('{CODE}', 'newer')")
    after = made(real_project.graph())
    assert after.key() != before
    assert View.read(after.file, keep=True).files[CODE].data == b"newer"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("step.write('init', '')", "/init comes from code and early-init; only one can own it"),
        ("step.write('bin/busybox/x', '')", "code brings /bin/busybox/x, but /bin/busybox is a file from busybox"),
    ],
)
def test_what_one_root_cannot_hold_is_refused(real_project: Project, line: str, told: str) -> None:
    recipes(real_project, line)
    with pytest.raises(KilnError, match=told):
        made(real_project.graph())

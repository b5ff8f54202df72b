"""What is said about configurations of dracut: each line that people copy from old texts, and what to write instead."""

from dataclasses import replace
from typing import Any

import pytest

from kiln.dracut.conf import parse
from kiln.dracut.lint import Finding, Known, lint
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.store import Work
from kiln.verbs.dracut import lint_
from tests.project import Project

KNOWN = Known(
    modules={"base", "bash", "crypt", "debug", "lvm", "mdraid", "kernel-modules", "fs-lib", "systemd"},
    drivers={"bridge", "veth", "dm_crypt", "dm_mod", "dm_snapshot", "e1000", "nf_conntrack", "floppy"},
    builtin={"overlay", "ext4", "virtio_net"},
)


def findings(text: str) -> list[Finding]:
    return list(lint(text, KNOWN))


@pytest.mark.parametrize(
    ("line", "told", "instead"),
    [
        ('add_drivers+="bridge"', "a blank at both ends", 'add_drivers+=" bridge "'),
        ('add_drivers+=" bridge"', "a blank at both ends", 'add_drivers+=" bridge "'),
        ('add_drivers=" bridge "', "replace them", 'add_drivers+=" bridge "'),
        ('add_drivers+=" aufs "', "overlay took its place", ""),
        ('add_drivers+=" overlay "', "overlay is built into this kernel", ""),
        ('add_drivers+=" namespace "', "CONFIG_NAMESPACES=y", ""),
        ('add_drivers+=" cgroup "', "CONFIG_CGROUPS=y", ""),
        ('add_drivers+=" netns "', "CONFIG_NET_NS=y", ""),
        ('add_drivers+=" apparmor "', "CONFIG_SECURITY_APPARMOR=y", ""),
        ('add_drivers+=" selinux "', "the dracut module selinux", ""),
        ('add_drivers+=" ima "', "CONFIG_IMA=y", ""),
        ('add_drivers+=" crio "', "it is a program", ""),
        ('add_drivers+=" containerd "', "it is a program", ""),
        ('add_drivers+=" brigde "', "this kernel has no module brigde", "did you mean bridge?"),
        ('add_drivers+=" dm_crypt "', "the dracut module crypt", 'add_dracutmodules+=" crypt "'),
        ('add_drivers+=" iscsi_tcp "', "the dracut module iscsi", 'add_dracutmodules+=" iscsi "'),
        ('compress="zstd"', 'compress = "zstd" in configs/', ""),
        ('hostonly="yes"', "drivers of the machine that builds", 'hostonly="no"'),
        ('hostonly_cmdline="yes"', "the root of the machine that builds", 'hostonly_cmdline="no"'),
        ('verbose="yes"', "dracut knows no such key", 'stdloglvl="4"'),
        ('omit_driver+=" floppy "', "dracut knows no such key", "did you mean omit_drivers"),
        ('dracutmodules+=" bash systemd "', "with it /init", 'add_dracutmodules+=" bash systemd "'),
        ('add_dracutmodules+=" container "', "dracut has no module container", ""),
        ('add_dracutmodules+=" lwm "', "dracut has no module lwm", "did you mean lvm?"),
        ('omit_dracutmodules+="plymouth"', "a blank at both ends", 'omit_dracutmodules+=" plymouth "'),
        ('filesystems+=" ext4 xfs "', "every other file system", 'add_drivers+=" ext4 xfs "'),
        ('add_device+=" /dev/mapper/* "', "devices of the machine that builds", 'add_dracutmodules+=" lvm "'),
        ('mdadmconf="yes"', "mdadm.conf of the machine that builds", 'add_dracutmodules+=" mdraid "'),
        ('omit_drivers+="floppy parport_pc"', "a blank at both ends", 'omit_drivers+=" floppy parport_pc "'),
        ("rd.loops.max=8", "there is no such parameter", ""),
        ("rd.shell", "the kernel's command line", ""),
        ("modprobe overlay", "run it as a command", ""),
        ("install_items+=\" $(ls /etc) \"", "a shell would run or look up", ""),
        ('install_items+=" `ls` "', "a shell would run or look up", ""),
        ('early_microcode="yes"', "the board says it: early", ""),
    ],
)  # fmt: skip
def test_each_wrong_line_is_explained(line: str, told: str, instead: str) -> None:
    said = [finding for finding in findings(f"# a comment\n\n{line}\n") if told in finding.text]
    assert len(said) == 1
    assert said[0].number == 3
    assert instead in said[0].instead
    if not instead:
        assert said[0].instead == ""


@pytest.mark.parametrize(
    "line",
    [
        'add_drivers+=" bridge veth "',
        'add_dracutmodules+=" lvm crypt "',
        'omit_dracutmodules+=" nosuch "',
        'hostonly="no"',
        'stdloglvl="4"',
        "install_items+=' /etc/$name '",
        'install_items+=" /etc/a\n  /etc/b "',
        "# add_drivers+=aufs",
        "",
    ],
)
def test_nothing_is_said_of_what_is_right(line: str) -> None:
    assert findings(line) == []


def test_what_to_write_leaves_out_what_cannot_be() -> None:
    said = findings('add_drivers+="bridge aufs overlay"')
    assert [finding.wrong for finding in said] == [True, False, True]
    assert said[-1].instead == 'add_drivers+=" bridge overlay "'


def test_a_quotation_that_never_ends_is_no_assignment() -> None:
    (said,) = findings('\nadd_drivers+=" bridge\n')
    assert (said.number, said.wrong) == (2, True)


def test_statements_know_their_lines() -> None:
    text = 'a="1"\n\nb+=" x\ny "\nc=$(d)\n'
    assert [(item.number, item.key, item.adds, item.words, item.live) for item in parse(text)] == [
        (1, "a", False, ["1"], False),
        (3, "b", True, ["x", "y"], False),
        (5, "c", False, ["$(d)"], True),
    ]


def test_what_a_kernel_has_no_driver_for_is_of_no_use() -> None:
    text = 'add_dracutmodules+=" lvm crypt "\nomit_dracutmodules+=" crypt "\n'
    known = Known(modules={"crypt", "lvm"}, drivers={"dm_mod"}, builtin={"ext4"})
    (finding,) = lint(text, known)
    assert (finding.number, finding.wrong) == (1, True)
    assert finding.text == "add_dracutmodules: this kernel has no dm_crypt, without which crypt does nothing"
    assert not list(lint(text, known, useful=False))
    assert not list(lint(text, replace(known, builtin={"dm_crypt"})))
    # A kernel that was built elsewhere says nothing.
    assert not list(lint(text, replace(known, drivers=(), builtin=())))


@pytest.fixture
def graph(project: Project) -> Graph:
    """A board whose dracut has two modules, and whose kernel has two drivers."""
    project.recipe("dracut")
    graph = project.graph()
    results = {
        "dracut": {f"usr/lib/dracut/modules.d/{name}/module-setup.sh": "" for name in ("80base", "70lvm")},
        "linux": {
            "lib/modules/6.1/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
            "lib/modules/6.1/modules.order": "kernel/drivers/md/dm-mod.ko\n",
        },
    }

    for name, files in results.items():
        target = graph.result(name)

        def fill(work: Work, files: dict[str, str] = files) -> dict[str, Any]:
            for path, text in files.items():
                place = work.root / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
            return {}

        inputs = target.inputs()
        target.store.build(target.name, target.version, inputs, fill)
        target.look()
    return graph


def test_the_verb_names_places_and_fails_where_something_is_wrong(
    project: Project, graph: Graph, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    with pytest.raises(KilnError, match="has no configuration of dracut"):
        lint_(graph)
    file = project.file("board/test/dracut.conf.d/a.conf", 'add_drivers+=" ext4 "\nadd_dracutmodules+="lvm"\n')
    with pytest.raises(KilnError, match="1 line will not do what it says"):
        lint_(graph)
    assert capsys.readouterr().out.splitlines() == [
        "board/test/dracut.conf.d/a.conf:1: add_drivers: ext4 is built into this kernel, and needs no line",
        "board/test/dracut.conf.d/a.conf:2: add_dracutmodules: without += and a blank at both ends its values run"
        " together with others, or replace them",
        '    add_dracutmodules+=" lvm "',
    ]
    file.write_text('add_drivers+=" dm-mod "\n')
    lint_(graph, "board/test/dracut.conf.d/a.conf")
    assert capsys.readouterr().out == ""
    with pytest.raises(KilnError, match=r"nosuch\.conf: cannot read it"):
        lint_(graph, "nosuch.conf")

"""What is found wrong in an initramfs: each finding in a small one, and none in the real ones."""

import os
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from kiln.image.manifest import Node, file_node
from kiln.initramfs.links import Links
from kiln.initramfs.program import Program, program
from kiln.initramfs.verify import Finding, verify
from kiln.initramfs.view import View
from kiln.verbs import initramfs
from tests.elf import elf
from tests.initramfs import Part, archive, file, folder, symlink
from tests.project import Project

LOADER = "/lib/ld-musl-x86_64.so.1"
SOUND = {
    "folders": [folder(name) for name in ("usr", "usr/lib", "usr/bin", "usr/lib/modules", "usr/lib/modules/6.1")],
    "lib": [symlink("lib", "usr/lib")],
    "bin": [symlink("bin", "usr/bin")],
    "init": [file("init", b"#!/bin/sh\n", mode=0o100755)],
    "libc": [file("usr/lib/libc.so", elf(), mode=0o100755)],
    "loader": [symlink("usr/lib/ld-musl-x86_64.so.1", "libc.so")],
    "libblkid": [file("usr/lib/libblkid.so.1", elf(needed=["libc.so"]))],
    "sh": [file("usr/bin/sh", elf(loader=LOADER, needed=["libblkid.so.1", "libc.so"]), mode=0o100755)],
    "builtin": [file("usr/lib/modules/6.1/modules.builtin", b"kernel/fs/ext4/ext4.ko\n")],
    "driver": [file("usr/lib/modules/6.1/dm-crypt.ko.xz", b"")],
    "lock": [folder("var"), symlink("var/lock", "../run/lock"), symlink("mtab", "/proc/self/mounts")],
}


def links(tmp_path: Path, **parts: list[Part]) -> Links:
    """A sound initramfs in which some parts are others."""
    made = [part for name in {**SOUND, **parts} for part in {**SOUND, **parts}[name]]
    (tmp_path / "made").write_bytes(archive(folder("."), *made))
    return Links(view=View.read(tmp_path / "made", keep=True))


def found(links: Links, **more: Any) -> list[Finding]:
    return list(verify(links, **more))


def one(links: Links, **more: Any) -> Finding:
    (finding,) = found(links, **more)
    return finding


def test_a_sound_one_is_told_nothing_of(tmp_path: Path) -> None:
    sound = links(tmp_path)
    assert not found(sound, must=["dm_crypt", "ext4", "/bin/sh", "dm-crypt"])
    assert sound.programs.keys() == {"init", "usr/bin/sh", "usr/lib/libblkid.so.1", "usr/lib/libc.so"}
    assert sound.all_needed("init") == {"usr/bin/sh", "usr/lib/libblkid.so.1", "usr/lib/libc.so"}


@pytest.mark.parametrize(
    ("parts", "where", "text", "instead"),
    [
        ({"init": []}, "/init", "is not there", "module base"),
        ({"init": [file("init", b"#!/bin/sh\n")]}, "/init", "cannot be executed", "chmod 755 init"),
        ({"init": [symlink("init", "bin/gone")]}, "/init", "is not there", "module base"),
        ({"init": [file("init", b"exec sh\n", mode=0o100755)]}, "/init", "neither a script", "#!/bin/sh"),
        ({"init": [file("init", b"#!/bin/bash -e\n", mode=0o100755)]}, "/init", "/bin/bash", "install_items"),
        ({"libblkid": []}, "/usr/bin/sh", "the library libblkid.so.1, which is not there", "libs of the recipe"),
        ({"loader": []}, "/usr/bin/sh", f"{LOADER}, which loads it", "libs of the recipe"),
        ({"libc": [file("usr/lib/libc.so", elf())]}, "/usr/bin/sh", "cannot be executed", "libs of the recipe"),
        ({"sh": [file("usr/bin/sh", elf(loader=LOADER)[:100], mode=0o100755)]}, "/usr/bin/sh", "damaged", "again"),
        ({"lost": [file("opt/lost", b"")]}, "opt/lost: there is no folder for it", "leave this entry out", "folder"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_to_do(
    tmp_path: Path, parts: dict[str, list[Part]], where: str, text: str, instead: str
) -> None:
    finding = next(finding for finding in found(links(tmp_path, **parts)) if finding.wrong)
    assert finding.where == where
    assert text in finding.text
    assert instead in finding.instead


@pytest.mark.parametrize("mode", [0o104755, 0o102755])
def test_rights_of_the_owner_are_told_and_no_mistake(tmp_path: Path, mode: int) -> None:
    finding = one(links(tmp_path, more=[file("usr/bin/su", mode=mode)]))
    assert (finding.where, finding.instead, finding.wrong) == ("/usr/bin/su", "chmod 0755", False)
    assert f"mode {mode & 0o7777:04o}" in finding.text


def test_a_link_to_nowhere_is_told_and_no_mistake(tmp_path: Path) -> None:
    finding = one(links(tmp_path, more=[symlink("usr/bin/vgs", "lvm")]))
    assert (finding.where, finding.wrong) == ("/usr/bin/vgs", False)
    assert "leads to lvm, which is not there" in finding.text


@pytest.mark.parametrize("word", ["dm_mod", "/usr/sbin/cryptsetup", "/usr/bin/dangles"])
def test_what_must_be_there_is_missed(tmp_path: Path, word: str) -> None:
    made = links(tmp_path, more=[symlink("usr/bin/dangles", "../../proc/1/exe")])
    finding = one(made, must=["ext4", word])
    assert (finding.where, finding.wrong) == (word, True)
    assert "initramfs_must" in finding.text


def test_a_module_counts_that_only_the_kernel_itself_knows_of(tmp_path: Path) -> None:
    bare = links(tmp_path, builtin=[], driver=[])
    assert not found(bare, must=["dm_mod"], builtin={"dm_mod"})
    assert one(bare, must=["dm_crypt"], builtin={"dm_mod"}).wrong
    assert not found(links(tmp_path, builtin=[]), must=["dm_crypt"])
    unknown = one(bare, must=["dm_crypt"])
    assert not unknown.wrong and "nothing here says" in unknown.text


def test_a_file_from_elsewhere_is_a_mistake(tmp_path: Path) -> None:
    made = links(
        tmp_path,
        more=[folder("etc"), file("etc/passwd", b"by dracut"), file("etc/hostid", b"by whom?"), file("etc/empty")],
        builtin=[],
    )
    known = {file.digest for _, file in made.view.matching("init|usr/.*")}
    finding = one(made, known=known)
    assert (finding.where, finding.wrong) == ("/etc/hostid", True)
    assert "is of no package" in finding.text


def test_libraries_are_found_where_loaders_look(tmp_path: Path) -> None:
    needed = ["liba.so", "libb.so", "/opt/libc.so", "libd.so"]
    more = [
        folder("opt"), folder("opt/lib"), folder("usr/lib/x86_64-linux-gnu"), file("opt/lib/liba.so", elf()),
        file("opt/libc.so", elf()), file("usr/lib/x86_64-linux-gnu/libb.so", elf()),
        file("opt/prog", elf(loader=LOADER, needed=needed, runpath="/nowhere:$ORIGIN/lib"), mode=0o100755),
    ]  # fmt: skip
    assert dict(links(tmp_path, more=more).libraries("opt/prog")) == {
        "liba.so": "opt/lib/liba.so",
        "libb.so": "usr/lib/x86_64-linux-gnu/libb.so",
        "/opt/libc.so": "opt/libc.so",
        "libd.so": None,
    }


def test_what_is_no_program() -> None:
    assert program(b"") is None
    assert program(b"MZ") is None
    assert program(b"#!") == Program()
    assert program(b"#! /bin/sh -e\nexit\n") == Program(interpreter="/bin/sh")
    assert program(elf()) == Program()


@pytest.mark.parametrize(
    ("place", "data"), [(4, b"\x07"), (32, b"\xff" * 8), (40, b"\xff" * 8), (54, b"\1\0"), (64, b"\2")]
)
def test_a_program_whose_numbers_are_off_is_damaged_or_asks_for_nothing(place: int, data: bytes) -> None:
    sound = elf(loader=LOADER, needed=["libc.so"])
    made = program(sound[:place] + data + sound[place + len(data) :])
    assert made and (made.damaged or not made.needed or made == program(sound))


def run(project: Project, *places: str) -> None:
    initramfs.verify_(project.graph(), *places)


def test_the_verb_tells_each_finding_and_fails_for_mistakes_alone(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = os.fspath(tmp_path / "made")
    links(tmp_path, more=[symlink("usr/bin/vgs", "lvm")])
    run(project, made)
    assert capsys.readouterr().out == (
        "note  /usr/bin/vgs: leads to lvm, which is not there\n    bring it, or remove the link\n"
        f"{made}: 4 programs, scripts and libraries find all that they need\n"
    )
    links(tmp_path, libblkid=[], init=[])
    with pytest.raises(KilnError) as caught:
        run(project, made)
    assert caught.value.message == "2 things are wrong"
    assert "wrong  /init: is not there" in capsys.readouterr().out


def test_the_verb_says_what_it_wants(project: Project, tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        run(project)
    assert "the initramfs of test is none" in str(caught.value)
    with pytest.raises(KilnError) as caught:
        run(project, "a", "b")
    assert "name one file" in str(caught.value)
    with pytest.raises(KilnError) as caught:
        run(project, os.fspath(tmp_path / "none"))
    assert "cannot read it" in str(caught.value)


@pytest.mark.parametrize("name", ["20-base.conf", "20-crypt.conf"])
def test_the_root_of_the_machine_that_builds_is_a_mistake(tmp_path: Path, name: str) -> None:
    more = [folder("etc"), folder("etc/cmdline.d"), file(f"etc/cmdline.d/{name}", b"rd.luks.uuid=1234")]
    made = links(tmp_path, more=more)
    known = {file.digest for _, file in made.view.matching("init|usr/.*")}
    assert [finding.where for finding in found(made, known=known)] == (
        [] if name == "20-base.conf" else [f"/etc/cmdline.d/{name}"]
    )


def test_nodes_and_findings_speak_of_the_same_digests(tmp_path: Path) -> None:
    """What the writer of images calls a file's digest is what a view calls it."""
    node: Node = file_node("init", b"#!/bin/sh\n", package="x")
    assert links(tmp_path).view.files["init"].digest == node.digest

"""What dracut is told: a board's configurations and modules, by profile."""

import os

import pytest

from kiln.dracut.profile import PROFILES, Profile
from kiln.errors import KilnError
from tests.console import ROOT
from tests.project import Project


def profile(project: Project, name: str = "", *chosen: str) -> Profile:
    project.board(packages=[], more=f"dracut = {list(chosen)}\n")
    return Profile(board=project.graph().board, name=name)


@pytest.fixture
def shared(project: Project) -> Project:
    for name, line in {"luks": "crypt", "minimal": "fs-lib", "full": "lvm mdraid"}.items():
        project.file(f"board/common/dracut.conf.d/{name}.conf", f'add_dracutmodules+=" {line} "\n')
    project.file("board/test/dracut.conf.d/a.conf", 'fscks+=" e2fsck "\ninstall_items+=" /usr/bin/strace "\n')
    return project


def names(profile: Profile) -> list[str]:
    return list(profile.texts())


def test_the_shared_ones_come_first_then_the_boards_own_then_that_of_the_profile(shared: Project) -> None:
    assert names(profile(shared)) == ["01-a.conf"]
    assert names(profile(shared, "", "luks")) == ["01-luks.conf", "02-a.conf"]
    assert names(profile(shared, "full", "luks")) == ["01-luks.conf", "02-a.conf", "03-full.conf"]
    assert names(profile(shared, "minimal", "luks")) == ["01-minimal.conf"]


def test_words_of_a_configuration_call_for_packages(shared: Project) -> None:
    full = profile(shared, "full", "luks")
    assert all(full.calls_for([name]) for name in ("crypt", "lvm", "mdraid", "e2fsck", "strace"))
    assert not full.calls_for(["fs-lib"])
    assert not full.calls_for([])
    assert not profile(shared, "minimal", "luks").calls_for(["crypt", "e2fsck"])


def test_modules_are_the_shared_ones_and_the_boards_own_which_win(shared: Project) -> None:
    shared.file("board/common/dracut/modules.d/90pot/module-setup.sh", "")
    shared.file("board/common/dracut/modules.d/91jar/module-setup.sh", "")
    own = shared.file("board/test/dracut/modules.d/90pot/module-setup.sh", "").parent
    told = profile(shared)
    assert list(told.modules) == ["90pot", "91jar"]
    assert told.modules["90pot"] == own
    before = told.told()
    (own / "pot.sh").write_text("true\n")
    assert profile(shared).told() != before


def test_a_key_is_for_a_device_of_its_own(shared: Project) -> None:
    shared.file("board/test/dracut/modules.d/90pot/keys/root.key", "secret")
    message = r"board/test/dracut/modules\.d/90pot/keys/root\.key: everyone who has the initramfs could read this key"
    with pytest.raises(KilnError, match=rf"{message}\n.*rd\.luks\.key="):
        profile(shared).told()


def test_what_cannot_be_read_is_named(shared: Project) -> None:
    os.mkfifo(shared.file("board/test/dracut/modules.d/90pot/module-setup.sh", "").parent / "pipe")
    with pytest.raises(KilnError, match="initramfs: cannot read a module of dracut"):
        profile(shared).told()
    (shared.root / "board/test/dracut.conf.d/b.conf").mkdir()
    with pytest.raises(KilnError, match=r"board/test/dracut\.conf\.d/b\.conf: cannot read it"):
        profile(shared).texts()


def test_an_unknown_configuration(shared: Project) -> None:
    with pytest.raises(KilnError, match=r"dracut: there is no board/common/dracut\.conf\.d/lusk\.conf\n.*luks"):
        profile(shared, "", "lusk")


def test_every_profile_has_its_configuration() -> None:
    for name in PROFILES:
        assert (ROOT / f"board/common/dracut.conf.d/{name}.conf").is_file()

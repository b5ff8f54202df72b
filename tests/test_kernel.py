"""Kernels that somebody else built."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.kernel import Prebuilt, kernel_image
from tests.project import Project

KERNEL = b"a kernel, built elsewhere\n"
SHA256 = hashlib.sha256(KERNEL).hexdigest()


def board(project: Project, file: str, sha256: str = SHA256, more: str = "", packages: Sequence[str] = ()) -> None:
    project.board(packages=list(packages), more=f'[kernel]\nfile = "{file}"\nsha256 = "{sha256}"\n{more}')


def place(project: Project, name: str = "vmlinuz-lts") -> Path:
    path = project.root / name
    path.write_bytes(KERNEL)
    return path


def test_a_file_of_the_project_is_the_board_s_kernel(project: Project) -> None:
    place(project)
    project.file("kernel.config", "CONFIG_EXT4_FS=y\n")
    board(project, "vmlinuz-lts", more='config = "kernel.config"\n')
    kernel = project.graph().kernel
    kernel.build()
    assert kernel_image(kernel.built()).read_bytes() == KERNEL
    assert (kernel.built().root / "boot/config").read_text() == "CONFIG_EXT4_FS=y\n"


def test_a_kernel_comes_from_a_url(project: Project) -> None:
    path = place(project)
    board(project, path.as_uri())
    kernel = project.graph().kernel
    kernel.build()
    assert kernel_image(kernel.built()).name == "vmlinuz-lts"


def test_no_kernel_is_built_then(project: Project) -> None:
    place(project)
    board(project, "vmlinuz-lts")
    graph = project.graph()
    assert "linux:build" not in {dep.id for dep in graph.image.deps}
    assert "kernel" in {dep.id for dep in graph.image.deps}
    assert "embedded" not in graph.media


def test_modules_of_another_kernel_stay_out(project: Project) -> None:
    project.recipe("linux-modules")
    board(project, "vmlinuz-lts", packages=["linux-modules"])
    with pytest.raises(KilnError, match=r"packages: linux-modules is of .*\n.* can have those of vmlinuz-lts"):
        _ = project.graph().rootfs


@pytest.mark.parametrize(
    ("file", "sha256", "message"),
    [
        ("vmlinuz-lts", "0" * 64, "sha256"),
        ("vmlinuz-none", SHA256, "vmlinuz-none"),
    ],
)
def test_another_or_no_file_is_an_error_that_says_what_to_correct(
    project: Project, file: str, sha256: str, message: str
) -> None:
    place(project)
    board(project, file, sha256)
    with pytest.raises(KilnError, match=message) as caught:
        project.graph().kernel.build()
    assert caught.value.hint and "[kernel]" in caught.value.hint


def test_a_digest_that_is_none_is_an_error_in_the_board(project: Project) -> None:
    board(project, "vmlinuz-lts", "tiny")
    with pytest.raises(KilnError, match="is no SHA-256 digest") as caught:
        project.graph()
    assert caught.value.where and caught.value.where.startswith("configs/test.toml")


def test_a_kernel_has_the_name_of_its_file() -> None:
    assert Prebuilt(file="https://example.org/kernels/vmlinuz-lts", sha256=SHA256).name == "vmlinuz-lts"

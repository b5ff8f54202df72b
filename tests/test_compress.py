from pathlib import Path

import pytest

from kiln.image.compress import compress
from kiln.sandbox import Sandbox


@pytest.mark.sandbox
def test_it_unpacks_to_the_same_bytes_and_nothing_of_the_file_is_kept(tmp_path: Path, image_sandbox: Sandbox) -> None:
    data = b"".join(str(number).encode() for number in range(200_000))
    packed = []
    for name in ("one", "-an other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
        compress(folder / name, folder / "packed.zst", image_sandbox)
        packed.append((folder / "packed.zst").read_bytes())
    assert packed[0] == packed[1]
    assert len(packed[0]) < len(data) / 2
    assert image_sandbox.run(["zstd", "-dc"], input=packed[0]) == data


@pytest.mark.sandbox
def test_an_older_result_is_replaced(tmp_path: Path, image_sandbox: Sandbox) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "a.zst").write_bytes(b"old")
    compress(tmp_path / "a", tmp_path / "a.zst", image_sandbox)
    assert image_sandbox.run(["zstd", "-dc"], input=(tmp_path / "a.zst").read_bytes()) == b"new"

import os
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.settings import Settings

ROOT = Path("/project")


def test_everything_lies_below_the_project_unless_told_otherwise() -> None:
    settings = Settings.read(ROOT, {})
    assert settings.store == ROOT / "output/store"
    assert settings.downloads == ROOT / "output/downloads"
    assert settings.mirror is None
    assert settings.archive is None
    assert settings.jobs == len(os.sched_getaffinity(0))


def test_the_environment_decides() -> None:
    settings = Settings.read(
        ROOT,
        {
            "KILN_STORE": "~/store",
            "KILN_DOWNLOADS": "downloads",
            "KILN_MIRROR": "/mirror",
            "KILN_DEBIAN": "http://archive/debian",
            "KILN_JOBS": "3",
        },
    )
    assert settings.store == Path.home() / "store"
    assert settings.downloads == Path.cwd() / "downloads"
    assert settings.mirror == "/mirror"
    assert settings.archive == "http://archive/debian"
    assert settings.jobs == 3


def test_an_empty_variable_is_none() -> None:
    names = ("KILN_STORE", "KILN_DOWNLOADS", "KILN_MIRROR", "KILN_DEBIAN")
    assert Settings.read(ROOT, dict.fromkeys(names, "")) == Settings.read(ROOT, {})


@pytest.mark.parametrize("jobs", ["0", "-1", "1025", "two", "1.5", ""])
def test_a_number_of_jobs_that_is_none_is_refused(jobs: str) -> None:
    with pytest.raises(KilnError, match=r"^KILN_JOBS: .* is not a number from 1 to 1024"):
        Settings.read(ROOT, {"KILN_JOBS": jobs})

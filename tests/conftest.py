"""What tests share: the tools trees, which are made once, and small projects of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiln.sandbox import Sandbox
from kiln.settings import Settings
from kiln.store import Store
from kiln.tools import Tools
from tests.archive import DebianArchive
from tests.project import Project
from tests.servers import Server, serve

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The tools of this checkout, built in its own store where they are not there yet."""
    settings = Settings.read(ROOT)
    tools = Tools(settings, Store(settings.store))
    for name in ("sandbox", "build", "image"):
        if not tools[name].entry():
            tools[name].build()
    return tools


@pytest.fixture(scope="session")
def image_sandbox(tools: Tools) -> Sandbox:
    """An empty sandbox on the image tools."""
    return tools.sandbox("image")


@pytest.fixture(scope="session")
def checkers(tools: Tools) -> Sandbox:
    """An empty sandbox on tools that others wrote, which judge what was made."""
    if not tools["checkers"].entry():
        tools["checkers"].build()
    return tools.sandbox("checkers")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a board and no packages, for what needs no tools."""
    return Project(tmp_path / "project", ROOT)


@pytest.fixture
def real_project(tmp_path: Path, tools: Tools) -> Project:
    """A project whose store has the tools trees in it, so that its packages really build."""
    project = Project(tmp_path / "project", ROOT)
    project.store.mkdir(parents=True)
    for name in ("sandbox", "build", "image"):
        place = tools[name].built().path
        (project.store / place.name).symlink_to(place)
    return project


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file below the test's folder."""

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return _write


@pytest.fixture
def server() -> Iterator[Server]:
    """An HTTP server on the loopback."""
    with serve() as server:
        yield server


@pytest.fixture
def archive(server: Server) -> DebianArchive:
    """An archive laid out like Debian's, on that server."""
    return DebianArchive(server)


# What `make test` leaves to its children would make the tests' own makes talk more.
for _name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(_name, None)

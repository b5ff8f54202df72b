"""Git: the files of one tag, as they were committed, whatever the user's git settings and the tag's attributes say."""

import os
import shutil
import tempfile
from pathlib import Path

from kiln import process
from kiln.errors import KilnError

# No user's or machine's settings, and an end to a transfer that stands still for 30 seconds.
_CONFIG = ("core.autocrlf=false", "core.attributesFile=/dev/null", "http.lowSpeedLimit=1", "http.lowSpeedTime=30")
_RAW = "* -text -ident -filter -working-tree-encoding\n"

# What leads git to its own programs or to a server; the rest of GIT_* belongs to whoever started us, such as a hook.
_KEPT = ("GIT_EXEC_PATH", "GIT_PROXY", "GIT_SSH", "GIT_SSL")


def checkout(url: str, *, tag: str, commit: str, into: Path) -> None:
    """Put the files of ``tag`` into a folder. Raises KilnError where the tag cannot be had or is not ``commit``."""
    if not shutil.which("git"):
        raise KilnError("git is not installed", where=url, hint="install git, or use a mirror of the files")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix="git-") as folder:
        repository = Path(folder)
        try:
            _git(repository, "init", "--quiet", "--bare", "--template=")
            (repository / "info").mkdir()
            (repository / "info/attributes").write_text(_RAW)
            wanted = ("fetch", "--quiet", "--no-tags", url, f"refs/tags/{tag}")
            try:
                _git(repository, *wanted, "--depth=1")
            except process.CommandFailed as error:
                if "shallow" not in error.message:
                    raise
                # A server of plain files has the whole history or nothing.
                _git(repository, *wanted)
            found = _git(repository, "rev-parse", "FETCH_HEAD^{commit}").decode().strip()
            if found != commit:
                raise KilnError(f"tag {tag} is commit {found}, expected {commit}")
            _git(repository, "read-tree", commit)
            _git(repository, f"--work-tree={into.absolute()}", "checkout-index", "--all")
        except KilnError as error:
            error.where = url
            raise


def tags(url: str) -> dict[str, str]:
    """The commit of each tag of a git repository. Raises KilnError where it does not answer."""
    if not shutil.which("git"):
        raise KilnError("git is not installed", where=url, hint="install git")
    try:
        lines = _git(Path("/nonexistent"), "ls-remote", "--tags", "--", url).decode().splitlines()
    except process.CommandFailed as error:
        error.where = url
        raise
    found = {}
    for commit, ref in (line.split("\t") for line in lines):
        found[ref.removeprefix("refs/tags/")] = commit
    # Of an annotated tag, the line that ends in ^{} has the commit.
    return {name: found.get(f"{name}^{{}}", commit) for name, commit in found.items() if not name.endswith("^{}")}


def _git(repository: Path, *words: str) -> bytes:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    env |= {
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    options = [word for setting in _CONFIG for word in ("-c", setting)]
    return process.run(["git", f"--git-dir={repository.absolute()}", *options, *words], env=env, leashed=True)

import pytest

from kiln.jobs import Jobserver
from kiln.ninja import tokens


def test_what_is_free_is_taken_until_the_end() -> None:
    server = Jobserver(4)
    with server.slot():
        with tokens(server.makeflags) as jobs:
            assert jobs == 4
            with tokens(server.makeflags) as others:
                assert others == 1
        with pytest.raises(RuntimeError), tokens(server.makeflags):
            raise RuntimeError
        with tokens(server.makeflags) as jobs:
            assert jobs == 4


def test_without_a_jobserver_ninja_decides() -> None:
    with tokens("") as jobs:
        assert jobs is None

"""Budgets: what they say of an image that is too big."""

import pytest

from kiln.errors import KilnError
from kiln.image.budget import check

FILES = {"bzImage": 2_700_000, "rootfs.cpio.zst": 5_242_881}
PACKAGES = {"openssh": 26_500_000, "busybox": 1_134_000, "init": 13_400, "users": 120}


def test_what_is_within_its_budget_is_well() -> None:
    check({}, FILES, PACKAGES)
    check({"bzImage": 2_700_000, "openssh": 30 << 20}, FILES, PACKAGES)


def test_each_budget_that_is_exceeded_is_told_with_the_biggest_packages() -> None:
    with pytest.raises(KilnError) as error:
        check({"rootfs.cpio.zst": 5 << 20, "bzImage": 3 << 20, "openssh": 2500 << 10}, FILES, PACKAGES)
    assert str(error.value).splitlines() == [
        "budget: over budget",
        "  rootfs.cpio.zst takes 5.2 MB (5242881 B), 1 B more than 5.2 MB (5242880 B)",
        "  openssh takes 26.5 MB (26500000 B), 23.9 MB more than 2.6 MB (2560000 B)",
        "  biggest packages: openssh 26.5 MB, busybox 1.1 MB, init 13.4 kB",
        "  `doit size` shows what takes the room; leave things out, or raise their budget",
    ]


def test_a_name_that_is_nothing_in_the_image() -> None:
    with pytest.raises(KilnError, match=r"budget.openshs: .* no file or package 'openshs'\n  did you mean openssh\?"):
        check({"bzImage": 1, "openshs": 1}, FILES, PACKAGES)

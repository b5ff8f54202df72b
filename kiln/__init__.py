"""kiln: recipes in, bootable Linux images out. What recipes import is here."""

from kiln.board import Board
from kiln.errors import KilnError
from kiln.image.accounts import User
from kiln.recipe.package import Autotools, Kconfig, Meson, Option, Package
from kiln.recipe.step import Step
from kiln.source.pins import Archive, Debian, Git

__all__ = [
    "Archive", "Autotools", "Board", "Debian", "Git", "Kconfig", "KilnError", "Meson", "Option", "Package", "Step",
    "User",
]  # fmt: skip

"""kiln: recipes in, bootable Linux images out. What recipes import is here."""

from kiln.board import Board
from kiln.errors import KilnError
from kiln.recipe.package import Autotools, Kconfig, Option, Package
from kiln.recipe.step import Step
from kiln.source.pins import Archive, Debian, Git

__all__ = ["Archive", "Autotools", "Board", "Debian", "Git", "Kconfig", "KilnError", "Option", "Package", "Step"]

"""A report on a network that the course does not know: what it looks at, which of its parts matter, and how small it gets.

Each part of the report is a function that returns a `Part`: a table, pictures and an explorer, or a sentence that says why there are
none. A network of somebody else may do anything, so that no part lets an error of another through.
"""

from facelab.report.given import Given, check, of_files, of_network
from facelab.report.page import save
from facelab.report.part import Part
from facelab.report.parts import attributions, budgets, channels, compression, criteria, layers

__all__ = [
    "Given",
    "Part",
    "attributions",
    "budgets",
    "channels",
    "check",
    "compression",
    "criteria",
    "layers",
    "of_files",
    "of_network",
    "save",
]

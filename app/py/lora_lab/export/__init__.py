"""An adapter on its way out: in the forms of other programs, alone or merged into its model.

Everything is made piece by piece and handed to a sink (sink.py), so that a model of gigabytes never lies in memory.
Knows nothing of where the pieces go, nor of who asked.
"""

from .base import Base, open_base, open_base_of
from .plan import FORMS, KINDS, Export, plan_export
from .sink import NewFile, Sink, write_files

__all__ = [
    "FORMS",
    "KINDS",
    "Base",
    "Export",
    "NewFile",
    "Sink",
    "open_base",
    "open_base_of",
    "plan_export",
    "write_files",
]

"""PyMeshLab's filters, by a separate program in a sandboxed process of its own: repair, decimation, Hausdorff distance.

PyMeshLab is the optional extra ``pymeshlab``, licensed under the GPL-3, and nothing in this package imports it
(docs/decisions/003-pymeshlab-gpl.md). ``filters.program`` is the program; arrays go to it and come back as files.
"""

from __future__ import annotations

from cloudbaker.compute.meshlab.decimate import Decimated, DecimateOptions, decimate
from cloudbaker.compute.meshlab.hausdorff import Hausdorff, hausdorff
from cloudbaker.compute.meshlab.process import missing, require, version
from cloudbaker.compute.meshlab.repair import Repaired, RepairOptions, repair

__all__ = [
    "DecimateOptions",
    "Decimated",
    "Hausdorff",
    "RepairOptions",
    "Repaired",
    "decimate",
    "hausdorff",
    "missing",
    "repair",
    "require",
    "version",
]

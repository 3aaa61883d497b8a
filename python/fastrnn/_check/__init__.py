"""What ``python -m fastrnn check`` does: each kernel of this build against `fastrnn.reference`.

``_subjects.py`` lists the cells and the cases of each, ``_places.py`` the instruction levels and
GPUs where they run, ``_compare.py`` runs a case and measures; ``_data.py`` draws arrays and
``_tolerances.py`` says what an error is and how large it may be, for the tests too.
"""

from ._compare import Failure, Outcome, check
from ._data import Case
from ._places import Level, Place, gpus, levels, why_no_gpus
from ._subjects import Subject, cases_of, dtypes, find_subjects, subjects

__all__ = [
    "Case",
    "Failure",
    "Level",
    "Outcome",
    "Place",
    "Subject",
    "cases_of",
    "check",
    "dtypes",
    "find_subjects",
    "gpus",
    "levels",
    "subjects",
    "why_no_gpus",
]

"""The core of the benchmarks, for ``python -m fastrnn bench`` and for the suite of the repository.

Of it the rest of fastrnn has `case.py` alone, for `_check`. In the process of another library
`start.py` brings this package without fastrnn, so what a worker imports does without.
"""

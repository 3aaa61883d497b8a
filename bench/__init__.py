"""The benchmark suite: `python -m bench` from the repository's root. See `bench/__main__.py`."""

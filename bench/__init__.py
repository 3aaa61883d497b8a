"""The benchmark suite: `python -m bench` from the repository's root. See `bench/__main__.py`."""

from fastrnn._bench.peers import PLACES

PLACES.append(f"{__name__}.peers")

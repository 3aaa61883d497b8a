"""The dtypes that each engine computes in, by name; the engines themselves check every array."""

NARROW = ("float16", "bfloat16")
OF_ENGINE: dict[str, tuple[str, ...]] = {
    "cpu": ("float32", "float64"),
    "cuda": ("float32", "float64", *NARROW),
}


def of_cell_state(name: str) -> str:
    """The dtype of states other than h, where h has this one."""
    return "float32" if name in NARROW else name

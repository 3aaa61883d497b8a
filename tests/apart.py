"""Calls in a process of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
SECONDS = 300


def in_new_process(function: Callable[..., Result], *values: object) -> Result:
    """What a function of a module gives in a new process, which has none of this one's threads and
    memory.

    Raises
    ------
    BrokenProcessPool
        The process ended before it had a result; a pool of `multiprocessing` would wait for ever.
    TimeoutError
        It took longer than `SECONDS`.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *values).result(SECONDS)

"""A case: a layer and the size of a call of it, and the one grammar of its name, for benchmarks and
tests. Each of them adds what else its calls have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A layer of one cell and T steps of B rows, named `lstm_f32_T100_B32_I256_H512_D1-L2`."""

    cell: str
    T: int
    B: int
    I: int
    H: int
    dtype: str = "float32"
    D: int = 1
    L: int = 1
    P: int = field(default=0, kw_only=True)  # of a projection

    @property
    def outputs(self) -> int:
        """Values of h, which a direction gives."""
        return self.P or self.H

    @property
    def id(self) -> str:
        """The name, with a word for each thing that the case uses beside."""
        short = self.dtype.replace("float", "f")  # f32, bf16
        text = f"{self.cell}_{short}_T{self.T}_B{self.B}_I{self.I}_H{self.H}_D{self.D}"
        words = {f"L{self.L}": self.L > 1, f"P{self.P}": self.P, **self.words()}
        return "-".join([text, *(word for word, used in words.items() if used)])

    def words(self) -> Mapping[str, object]:
        """Words for what a case of this kind may use, each with whether this one does."""
        return {}

"""What `accelerate` and `restore` of an adapter say about a model."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What `accelerate` or `restore` did, by the modules' names; ``print(report)`` lists it.

    Attributes
    ----------
    changed : dict of str to str
        The new class of each module that was swapped.
    kept : dict of str to str
        Recurrent modules that stay as they are, and why.
    """

    changed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: now {to}" for name, to in self.changed.items()]
        lines += [f"{name or '(the model)'}: kept, {why}" for name, why in self.kept.items()]
        return "\n".join(lines) or "no recurrent layers"

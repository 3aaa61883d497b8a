"""The reference: which modules are public, and what stands on the page of a class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyClasslike

MODULES = (
    "fastrnn",
    "fastrnn.functional",
    "fastrnn.training",
    "fastrnn.weights",
    "fastrnn.reference",
    "fastrnn.cuda",
    "fastrnn.torch",
    "fastrnn.torch.rl",
    "fastrnn.keras",
    "fastrnn.jax",
    "fastrnn.jax.nn",
    "fastrnn.jax.nn.flax",
    "fastrnn.jax.nn.equinox",
    "fastrnn.onnx",
    "fastrnn.charlm",
)


def public_names() -> Iterator[tuple[str, Any]]:
    """Every public name with its module's in front, and what it is; each module with itself."""
    for name in MODULES:
        module = importlib.import_module(name)
        yield name, module
        for member in getattr(module, "__all__", ()):
            yield f"{name}.{member}", getattr(module, member)


def own_members(cls: type) -> list[str]:
    """The public members of a class that this package defines, its own and inherited ones.

    What a class has from torch, Keras, Flax or Equinox stands in their documents.
    """
    own = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "fastrnn"]
    names = {member for base in own for member in vars(base)}
    public = [member for member in names if not member.startswith("_") or member == "__call__"]
    return sorted(member for member in public if getattr(cls, member, None).__doc__)


def listed() -> dict[str, list[str]]:
    """What stands on the pages of modules and classes: plain data, which Sphinx keeps."""
    found: dict[str, list[str]] = {}
    for name, value in public_names():
        if inspect.isclass(value):
            found[name] = own_members(value)
        elif name in MODULES:
            members = getattr(value, "__all__", ())
            found[name] = sorted(m for m in members if not inspect.ismodule(getattr(value, m)))
    return found


class Class(PyClasslike):
    """A class, of which two modules may have one, as `Report`: the second of its pages notes
    neither the name of the module that defines it nor its source, which lead to the first."""

    def run(self) -> list[nodes.Node]:
        known = self.options.get("canonical") in self.env.domains["py"].data["objects"]
        if known:
            del self.options["canonical"]
        found = super().run()
        for node in found:
            for signature in node.findall(addnodes.desc_signature) if known else ():
                del signature["module"]
        return found


def remove_old_pages(app: Sphinx) -> None:
    """Remove the pages of names that are no more, which an earlier build wrote."""
    names = {name for name, _ in public_names()}
    for path in (app.srcdir / "api" / "generated").glob("*.rst"):
        if path.stem not in names:
            path.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive_to_domain("py", "class", Class, override=True)
    app.connect("builder-inited", remove_old_pages, priority=400)  # before autosummary's
    return {"parallel_read_safe": True, "parallel_write_safe": True}

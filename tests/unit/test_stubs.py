"""The stubs of the compiled modules say what the modules have, and nothing is left open in them."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType
from typing import Any

import pytest

from builds import ROOT
from fastrnn import _engine, _native

Signatures = dict[str, list[str]]  # the parameters of each function, by its qualified name


def of_stub(name: str) -> Signatures:
    tree = ast.parse((ROOT / f"python/fastrnn/{name}.pyi").read_text(encoding="utf-8"))
    found: Signatures = {}

    def read(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in node.args.args if a.arg != "self"]
                is_property = any(ast.unparse(d) == "property" for d in node.decorator_list)
                found[prefix + node.name] = ["property"] if is_property else names
            elif isinstance(node, ast.ClassDef) and not is_description(node):
                found[node.name] = []
                read(node.body, f"{node.name}.")

    read(tree.body, "")
    return found


def is_description(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base) in ("TypedDict", "Protocol") for base in node.bases)


def of_module(module: ModuleType) -> Signatures:
    found: Signatures = {}

    def parameters(function: Any) -> list[str]:
        text = function.__doc__.split("\n", 1)[0]
        names = re.findall(r"(?:\(|, )(\w+): ", text)
        return [n for n in names if n != "self"]

    for name, value in vars(module).items():
        if inspect.isclass(value):
            found[name] = []
            for member, inner in vars(value).items():
                if isinstance(inner, property):
                    found[f"{name}.{member}"] = ["property"]
                elif callable(inner) and (member == "__init__" or not member.startswith("_")):
                    found[f"{name}.{member}"] = parameters(inner)
        elif callable(value):
            found[name] = parameters(value)
    return found


def differences(stub: Signatures, module: Signatures) -> dict[str, Any]:
    names = stub.keys() | module.keys()
    return {n: (stub.get(n), module.get(n)) for n in names if stub.get(n) != module.get(n)}


def test_cpu() -> None:
    assert not differences(of_stub("_cpu"), of_module(_native.engine))


def test_cuda(emulated_engine: ModuleType) -> None:
    """But for what the emulated module has of its own."""
    found = differences(of_stub("_cuda"), of_module(emulated_engine))
    of_the_emulator = {name for name, (stub, _) in found.items() if stub is None}
    assert of_the_emulator == found.keys()
    source = (ROOT / "tests/cuda_emulation/emulation_module.h").read_text(encoding="utf-8")
    assert of_the_emulator == set(re.findall(r'm\.def\(\s*"(\w+)"', source))


@pytest.mark.parametrize("name", ["_cpu", "_cuda"])
def test_nothing_is_any(name: str) -> None:
    text = (ROOT / f"python/fastrnn/{name}.pyi").read_text(encoding="utf-8")
    assert not re.search(r"\bAny\b", text)


def test_fields_of_a_call(emulated_engine: ModuleType) -> None:
    """Python's class has the fields that both engines' table of roles says."""
    kinds = {name: getattr(_engine, name) for name in ("INFER", "FORWARD", "BACKWARD")}
    assert kinds == _native.engine.call_kinds == emulated_engine.call_kinds
    assert _engine.Call._fields == _native.engine.call_fields == emulated_engine.call_fields

"""Limits of the house: how long a source file is, and how many parameters a function has.

A reader finds a thing by the file's name and takes in a signature at a glance; both have an end. So
that it stays true, what is read here is text: it needs no build.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

import mutants
from builds import ROOT

MAX_LINES, MAX_PARAMETERS = 450, 8
PYTHON, CPP = (".py", ".pyi"), (".h", ".cpp", ".cuh", ".cu", ".in")

# Signatures that are not ours to shorten: public constructors and calls, whose parameters are the
# field's, the compiled module behind them, and torch's operators with what counts and traces them.
LONG_SIGNATURES = {
    ("python/fastrnn/functional.py", "forward"),
    ("python/fastrnn/functional.py", "infer"),
    ("python/fastrnn/jax/_functional.py", "init"),
    ("python/fastrnn/jax/_functional.py", "recurrent"),
    ("python/fastrnn/reference/scan.py", "forward"),
    ("python/fastrnn/_recurrent.py", "Recurrent.__init__"),
    ("python/fastrnn/layers.py", "GRU.__init__"),
    ("python/fastrnn/layers.py", "LSTM.__init__"),
    ("python/fastrnn/layers.py", "RNN.__init__"),
    ("python/fastrnn/quantized.py", "Quantized.__init__"),
    ("python/fastrnn/torch/_flops.py", "_forward_flops"),
    ("python/fastrnn/torch/_layers.py", "GRU.__init__"),
    ("python/fastrnn/torch/_layers.py", "LSTM.__init__"),
    ("python/fastrnn/torch/_layers.py", "RNN.__init__"),
    ("python/fastrnn/torch/_ops.py", "call_of"),
}


def sources(*suffixes: str) -> Iterator[tuple[str, str]]:
    """The names and texts of the files with these suffixes, but for tests and documents."""
    for folder in ("bench", "csrc", "examples", "python", "tools"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.name.endswith(suffixes) and path.is_file():
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


# ---- Python --------------------------------------------------------------------------------------

Function = tuple[str, int]  # its qualified name, and how many parameters it has


def python_functions(text: str) -> Iterator[Function]:
    """Each function that is not a lambda; self and cls are no parameters."""

    def visit(node: ast.AST, prefix: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                a = child.args
                all_of_them = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
                starred = [x for x in (a.vararg, a.kwarg) if x]
                own = [name for name in all_of_them if name not in ("self", "cls")]
                yield prefix + child.name, len(own) + len(starred)
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from visit(child, f"{prefix}{child.name}.")
            else:
                yield from visit(child, prefix)

    return visit(ast.parse(text), "")


# ---- C++ -----------------------------------------------------------------------------------------
#
# No compiler reads the text here. A declaration is what stands in brackets after a name (or after
# the brackets of a lambda, or a pointer to a function) and reads as a list of parameters: a type, a
# name or none, and perhaps a default. So functions, constructors, lambdas and pointers to functions
# are seen, declared or defined, templates or not. Not seen are functions that a macro makes, and
# lists with a parameter that PARAMETER does not match, which are taken for calls. (The arguments of
# a call hardly ever all match it; more than eight that did would be reported in error.)

NOT_CODE = re.compile(  # comments, strings and characters, preprocessor lines
    r'//[^\n]*|/\*.*?\*/|R"\(.*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|'
    r"^[ \t]*#(?:[^\n\\]|\\.)*(?:\\\n(?:[^\n\\]|\\.)*)*",
    re.DOTALL | re.MULTILINE,
)
NAME = re.compile(r"(\(\s*\*\s*\w+\s*\)|\w+|\boperator\W{1,3}|\[[^\][]*\])\s*$")
PARAMETER = re.compile(
    r"(?:(?:const|typename|struct|unsigned|FASTRNN_\w+)\s+)*[A-Za-z_][\w:]*(?:<.*>)?(?:::\w+)*"
    r"(?:\.\.\.)?(?:\s+const)?(?:\s+|\s*[*&]+(?:\s*const\b|\s*volatile\b)?\s*[*&]*\s*)"
    r"(?:\(\s*[&*]\s*\w*\s*\)|\w+)?(?:\[.*\])*(?:\s*=.*)?"  # type and name
    r"|(?:void|bool|int|float|double|char|unsigned|int64_t|size_t|View|Shape)"  # type alone
    r"|[\w:<>, *]+\(\s*\*\s*\w*\s*\)\s*\(.*\)"  # a pointer to a function
    r"|\.\.\.",
    re.DOTALL,
)


def split_list(text: str) -> list[str]:
    """What stands between the commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "([{<":
            depth += 1
        elif c in ")]}" or (c == ">" and text[i - 1] not in "-="):
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def cpp_functions(text: str) -> Iterator[Function]:
    code = NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    for opening in re.finditer(r"\(", code):
        name = NAME.search(code, max(0, opening.start() - 80), opening.start())
        if not name:
            continue
        depth, end = 1, opening.end()
        while depth and end < len(code):
            depth += {"(": 1, ")": -1}.get(code[end], 0)
            end += 1
        parameters = split_list(code[opening.end() : end - 1])
        if parameters and all(PARAMETER.fullmatch(each) for each in parameters):
            yield name.group(1), len(parameters)


# ---- the limits ----------------------------------------------------------------------------------


def test_files_are_short() -> None:
    lengths = {name: len(text.splitlines()) for name, text in sources(*PYTHON, *CPP)}
    long = {name: n for name, n in lengths.items() if n > MAX_LINES}
    assert lengths
    assert not long


def test_python_functions_have_few_parameters() -> None:
    found = {
        (file, name)
        for file, text in sources(*PYTHON)
        for name, n in python_functions(text)
        if n > MAX_PARAMETERS
    }
    assert found == LONG_SIGNATURES


def test_cpp_functions_have_few_parameters() -> None:
    found = {
        (file, name, n)
        for file, text in sources(*CPP)
        for name, n in cpp_functions(text)
        if n > MAX_PARAMETERS
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "functions"),
    [
        ("void f(int a, const T* b = nullptr);", [("f", 2)]),
        ("Thing::Thing(const Pair<A, B>& p, T (&sums)[kRows]) : p_(p) {}", [("Thing", 2)]),
        ("const auto use = [&](int a, auto b) { return g(a, b); };", [("[&]", 2)]),
        ("void (*pack)(const void* w, int64_t rows,\n  /* (x, */ void* out);", [("(*pack)", 3)]),
        ("template <class... A> void h(void (*kernel)(A...), A... arguments);", [("h", 2)]),
        ('call(a, b + 1, "void f(int a)"); // void f(int a)', []),
    ],
)
def test_the_parser_of_declarations(text: str, functions: list[Function]) -> None:
    assert list(cpp_functions(text)) == functions


def test_python_parameters_are_counted() -> None:
    text = "class A:\n  def f(self, a, /, b, *c, d=1, **e):\n    def g(): ...\n"
    assert list(python_functions(text)) == [("A.f", 5), ("A.f.g", 0)]


@pytest.mark.parametrize("file", sorted({mutant[0] for mutant in mutants.MUTANTS}))
def test_mutants_apply(file: str) -> None:
    """`python tests/mutants.py` takes minutes; that its patterns still stand there is seen here."""
    text = (ROOT / "csrc" / file).read_text(encoding="utf-8")
    assert not [old for name, old, *_ in mutants.MUTANTS if name == file and old not in text]

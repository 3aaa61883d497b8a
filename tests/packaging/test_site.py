"""The site of docs/: built with warnings as errors, whole, and seen in a browser."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import tiers
from builds import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import see_site

CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "docs" / "_extensions")!r})
extensions = ["myst_parser", "contents", "mathml", "outside"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"
"""


@pytest.fixture(scope="session")
def site(once: Callable[..., Path]) -> Path:
    """The site, built once for all workers, from a copy: a build writes beside its sources."""
    tiers.skip_without(*see_site.PACKAGES)

    def make(folder: Path) -> Path:
        source = folder / "source"
        source.mkdir()
        ignored = shutil.ignore_patterns("__pycache__", "generated")
        for path in ROOT.glob("[!.]*"):
            if path.name in ("docs", "examples"):
                shutil.copytree(path, source / path.name, ignore=ignored)
            elif path.suffix == ".md":
                shutil.copy(path, source)
            elif path.name != "build":  # what links lead to
                (source / path.name).symlink_to(path)
        see_site.build(folder / "site", source / "docs")
        return folder / "site"

    return once(make, "site")


@tiers.ci
def test_site_has_every_name_and_no_broken_link(site: Path) -> None:
    assert see_site.check(site) == []


def exported(file: Path) -> set[str]:
    """The names of a module's `__all__`, without importing it."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@tiers.ci
def test_every_public_module_is_in_the_reference() -> None:
    """Or all of its names are another's, as those of `fastrnn.layers` are `fastrnn`'s."""
    tiers.skip_without("sphinx")
    sys.path.insert(0, str(ROOT / "docs" / "_extensions"))
    from reference import MODULES

    names = {}
    for file in sorted((ROOT / "python" / "fastrnn").rglob("*.py")):
        parts = file.relative_to(ROOT / "python").with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        if not any(part.startswith("_") for part in module.split(".")):
            names[module] = exported(file)
    assert set(MODULES) <= set(names)
    listed = set().union(*(names[module] for module in MODULES))
    inner = {"fastrnn.reference.cell"}  # the cells that `fastrnn.reference` runs
    missing = {module for module in set(names) - set(MODULES) if names[module] - listed}
    assert missing == inner


@tiers.ci
def test_pages_that_stand_for_documents_have_their_text(site: Path) -> None:
    gallery = (site / "gallery.html").read_text(encoding="utf-8")
    assert gallery.count("<img") >= 12
    for path in sorted((ROOT / "examples").glob("[a-z]*.py")):
        assert f"/{path.name}" in gallery, "a reader can download each program"
    assert "0.1.0" in (site / "changes.html").read_text(encoding="utf-8")


@tiers.ci
def test_the_page_of_the_command_line_has_every_option(site: Path) -> None:
    page = (site / "api" / "command-line.html").read_text(encoding="utf-8")
    from fastrnn.__main__ import _parser

    (commands,) = (action for action in _parser()._actions if action.dest == "command")
    options = [
        (name, option)
        for name, command in commands.choices.items()
        for action in command._actions
        for option in action.option_strings
    ]
    assert ("train", "--resume") in options
    for name, option in options:
        anchor = f'id="cmdoption-python-m-fastrnn-{name}-{option.lstrip("-")}"'
        assert anchor in page, f"{name} {option}"


@tiers.ci
def test_what_is_wrong_with_a_site_is_found(site: Path, tmp_path: Path) -> None:
    """A name without its entry, a link and an anchor that lead nowhere, a page without a way."""
    wrong = tmp_path / "site"
    shutil.copytree(site, wrong, ignore=shutil.ignore_patterns(".doctrees"))
    lines = see_site.inventory_text(wrong).splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith("fastrnn.LSTM "))
    (wrong / "objects.inv").write_bytes(see_site.HEAD + zlib.compress(kept.encode()))
    text = (wrong / "gpu.html").read_text(encoding="utf-8")
    links = ["none.html", "numpy.html#none", "https://example.org/none"]
    added = "".join(f'<a href="{link}"></a>' for link in links)
    added += '<img src="https://example.org/none.png"><img src="none.png">'
    (wrong / "gpu.html").write_text(text.replace("</article>", added + "</article>"), "utf-8")
    (wrong / "alone.html").write_text("<h1>Alone</h1>", "utf-8")
    assert see_site.check(wrong) == [
        "gpu.html: none.html leads nowhere",
        "gpu.html: numpy.html#none has no such anchor",
        "gpu.html: https://example.org/none.png is loaded from outside the site",
        "gpu.html: none.png leads nowhere",
        "alone.html: no way leads here",
        "fastrnn.LSTM: not in the reference",
    ]


@tiers.ci
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(see_site, "PACKAGES", {"fastrnn": "fastrnn", "no_such_module": "none"})
    monkeypatch.setattr(see_site, "BROWSER_PACKAGES", {"no_browser_module": "other"})
    monkeypatch.setattr(see_site, "BROWSERS", ("no-such-program",))
    assert see_site.missing(browser=False) == ["not installed: none", 'pip install "fastrnn[docs]"']
    assert see_site.missing(browser=True) == [
        "not installed: none",
        "not installed: other",
        'pip install "fastrnn[docs]" playwright',
        "no Chromium on the PATH: none of no-such-program",
    ]


# ---- the extensions, on small sites --------------------------------------------------------------


def small_site(folder: Path, pages: dict[str, str]) -> tuple[str, Path]:
    """What a build of these pages warns of, and its folder."""
    tiers.skip_without("sphinx", "myst_parser", "latex2mathml")
    for name, text in {"docs/conf.py": CONF, **pages}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", "site"]
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, check=True)
    return done.stderr, folder / "site"


@tiers.ci
def test_formulas_become_mathml(tmp_path: Path) -> None:
    text = (
        "# Formulas\n\nThe state $h_t$ of {eq}`cell`.\n\n$$\nh_t = o_t \\odot c_t\n$$ (cell)\n\n"
        "$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$\n"
    )
    warnings, site = small_site(tmp_path, {"docs/index.md": text})
    assert not warnings
    page = (site / "index.html").read_text(encoding="utf-8")
    assert page.count("<math ") == 3
    assert page.count('display="block"') == 2
    assert page.count("<mtr>") == 2
    assert '<span class="eqno">(1)' in page
    assert 'href="#equation-cell">(1)</a>' in page
    assert not re.search("<script[^>]*http", page), "no script of others shows them"


@tiers.ci
@pytest.mark.parametrize(
    "formula", ["\\notacommand x", "x}", "a^b^c", "\\frac", "\\begin{nothing}a & b\\end{nothing}"]
)
def test_a_formula_that_is_wrong_is_warned_of(tmp_path: Path, formula: str) -> None:
    warnings, _ = small_site(tmp_path, {"docs/index.md": f"# Formula\n\n$${formula}$$\n"})
    assert "WARNING: formula" in warnings


@tiers.ci
def test_links_out_of_the_folder(tmp_path: Path) -> None:
    pages = {
        "README.md": "# The project\n",
        "examples/README.md": "# Programs\n\n## One\n\n[one](one.py), [up](../README.md), "
        "![a picture](../docs/images/a.svg), [below](#one), `[code](one.py)`\n",
        "examples/one.py": "print(1)\n",
        "SECURITY.md": "# No page has this\n",
        "docs/images/a.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
        "docs/index.md": "# Home\n",
        "docs/gallery.md": "```{include} ../examples/README.md\n```\n",
        "docs/guide/index.md": "# Guide\n\n[one](../../examples/README.md#one), [programs](\n"
        "../../examples/README.md), [folder](../../examples), [more](../../SECURITY.md), [home]("
        "../../README.md)\n\n"
        "```text\n[code](../../README.md)\n```\n",
        "docs/start/other.md": "# Other\n\n[nowhere](../none.md)\n",
    }
    warnings, site = small_site(tmp_path, pages)
    assert warnings.count("WARNING") == 1
    assert "other.md:3: WARNING: 'myst' cross-reference target not found" in warnings
    gallery = (site / "gallery.html").read_text(encoding="utf-8")
    assert 'href="index.html"' in gallery
    assert "/one.py" in gallery
    assert 'src="_images/a.svg"' in gallery
    assert "[code](one.py)" in gallery
    guide = (site / "guide" / "index.html").read_text(encoding="utf-8")
    assert 'href="../gallery.html#one"' in guide
    assert 'href="../index.html"' in guide
    assert "examples/" in guide
    assert "/SECURITY.md" in guide
    assert "[code](../../README.md)" in guide


@tiers.ci
def test_the_order_of_pages(tmp_path: Path) -> None:
    """Pages named in the contents come first, others by their names, and no folder is needed."""
    names = ["index", "start/jax", "start/numpy", "start/another", "guide/index", "guide/limits"]
    pages = {f"docs/{name}.md": f"# Page {name}\n" for name in [*names, "torch", "developers"]}
    pages["docs/other/deep.md"] = "# Page of no table\n"
    warnings, site = small_site(tmp_path, pages)
    assert warnings.count("WARNING") == 1
    assert "other/deep.md: WARNING: document isn't included in any toctree" in warnings
    page = (site / "index.html").read_text(encoding="utf-8")
    wanted = ["start/numpy", "start/jax", "start/another", "guide/index", "developers"]
    places = [page.index(f'href="{name}.html"') for name in wanted]
    assert places == sorted(places)


# ---- a browser -----------------------------------------------------------------------------------


@tiers.full
@pytest.mark.needs_tools("chromium")
def test_every_page_in_a_browser(site: Path, tmp_path: Path) -> None:
    tiers.skip_without("playwright", "tqdm")
    assert see_site.see(site, tmp_path) == []
    pictures = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert {"desktop/index.png", "phone/api/generated/fastrnn.LSTM.png"} <= pictures


@tiers.full
@pytest.mark.needs_tools("chromium")
def test_what_a_browser_finds_wrong(tmp_path: Path) -> None:
    tiers.skip_without("playwright", "tqdm")
    (tmp_path / "search.html").write_text(
        '<h1>Search</h1><div id="search-results"><p class="search-summary">Done</p></div>', "utf-8"
    )
    (tmp_path / "index.html").write_text(
        '<h1>Page</h1><img src="none.png"><p style="width: 2000px">wide</p>'
        '<script src="http://127.0.0.2:9/none.js"></script><script>throw Error("sorry")</script>',
        "utf-8",
    )
    wrong = "\n".join(see_site.see(tmp_path, tmp_path / "screens", ["index.html"]))
    for text in (
        "desktop: index.html: the picture none.png is missing",
        "desktop: index.html: wider than the window: 2",
        "phone: index.html: 404: http://127.0.0.1:",
        "phone: index.html: asks for http://127.0.0.2:9/none.js",
        "phone: index.html: error: sorry",
        "phone: search: glossary must find glossary.html, got nothing",
    ):
        assert text in wrong

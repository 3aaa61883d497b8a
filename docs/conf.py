"""The site of the documents: ``python -m sphinx -W --keep-going -b html docs build/site``.

The pages are the Markdown files of this folder, which read as well in the repository; what only the
site needs stands in `_extensions`. Nothing of a built page asks a network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))
# The reference imports fastrnn.keras, and with it a backend: the one that is installed anyway.
os.environ.setdefault("KERAS_BACKEND", "torch")

from reference import listed  # noqa: E402

import fastrnn  # noqa: E402

project = "fastrnn"
author = "the authors of fastrnn"
project_copyright = author
version = release = fastrnn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "commands",
    "contents",
    "mathml",
    "outside",
    "reference",
]
exclude_patterns = ["_extensions", "_static", "_templates"]
templates_path = ["_templates"]
# Blocks that name no language are commands, equations and drawings.
highlight_language = "none"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# ---- Markdown ------------------------------------------------------------------------------------

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
# A figure such as $5 is no formula, and neither is what a shell calls $HOME.
myst_dmath_allow_digits = False
myst_dmath_allow_space = False

# ---- the reference -------------------------------------------------------------------------------

# `name` in a docstring is a link where the reference has it, and else code.
default_role = "py:obj"
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autosummary_context = {"listed": listed()}
# Sizes, dtypes and defaults are what readers look for; types stand in the sections of parameters.
autodoc_typehints = "none"
autodoc_inherit_docstrings = True
python_maximum_signature_line_length = 90
numpydoc_show_class_members = False
add_module_names = False

# ---- HTML ----------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"fastrnn {release}"
html_static_path = ["_static"]
# Without it the theme writes an error to the console of who comes for the first time.
html_context = {"default_mode": "auto"}
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "logo": {"text": "fastrnn"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without others below them need no list of these.
html_sidebars = {name: [] for name in ("index", "gallery", "benchmarks", "search", "genindex")}
# What a program prints is not for copying, and neither are prompts.
copybutton_selector = "div.highlight:not(.highlight-text > div) pre"
copybutton_exclude = ".linenos, .gp, .go"
pygments_style = "default"

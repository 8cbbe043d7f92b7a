"""Rules that no linter knows."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from serving import errors
from serving.errors import TidegateError
from serving.gateway.errors import STATUS, status_of

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("serving", "exporters") for path in sorted((ROOT / folder).rglob("*.py"))]
SERVING = [path for path in SOURCES if path.is_relative_to(ROOT / "serving")]


def tree_of(kind: type) -> list[type]:
    return [kind, *(grandchild for child in kind.__subclasses__() for grandchild in tree_of(child))]


ERRORS = [kind for kind in tree_of(TidegateError) if kind.__module__.startswith("serving.")]


def test_every_error_has_a_code_of_its_own():
    codes = [kind.code for kind in ERRORS]
    assert len(codes) == len(set(codes))
    assert all("code" in vars(kind) and "title" in vars(kind) for kind in ERRORS)


def drawn_tree(text: str) -> dict[str, str]:
    """Name -> name of what it hangs from, in a tree drawn with four columns a level."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    for line in text.splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+)", line):
            branch[len(found[1]) // 4 :] = [found[2]]
            parents[found[2]] = branch[-2] if len(branch) > 1 else ""
    return parents


def test_the_tree_in_the_docstring_is_the_tree():
    _, _, tree = (errors.__doc__ or "").partition("\n\n")
    defined = {kind.__name__: kind.__base__.__name__ for kind in ERRORS if kind.__module__ == "serving.errors"}
    assert drawn_tree(tree) == {**defined, "TidegateError": ""}


OF_OPERATORS = {TidegateError, errors.RepositoryInvalid, errors.SettingsInvalid}  # met at start-up, not over HTTP


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind not in OF_OPERATORS], ids=lambda kind: kind.__name__)
def test_every_error_that_callers_can_meet_has_a_status(kind):
    found = next(ancestor for ancestor in kind.__mro__ if ancestor in STATUS)
    assert found is not TidegateError, "not by the row that catches everything"
    assert status_of(kind("x")) == STATUS[found]


MOST_LINES = 200
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str) -> int:
    """Lines but blanks, comments and docstrings."""
    lines = {i for i, line in enumerate(source.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "base", "core", "manager", "handler", "misc"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small_and_named_for_what_they_are(path):
    assert path.stem not in FORBIDDEN_NAMES
    assert code_lines(path.read_text()) <= MOST_LINES, "a file that grows this long has two concerns"


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_METHODS = {"system", "popen", "create_subprocess_shell", "create_subprocess_exec"}
FORBIDDEN_ARGUMENTS = {"shell", "allow_pickle"}
FORBIDDEN_MODULES = {
    "dill", "exporters", "joblib", "marshal", "pickle", "shelve", "subprocess", "tests", "torch", "unittest", "yaml",
}  # fmt: skip


# Models are vetted in a child, which this file alone starts: this interpreter, on a fixed module of serving, without a
# shell and without any text of a caller (docs/decisions/0006-gate.md).
STARTS_A_PROCESS = ROOT / "serving/versions/vetting_process.py"


@pytest.mark.parametrize("path", SERVING, ids=lambda path: str(path.relative_to(ROOT)))
def test_serving_loads_no_code_from_data_and_starts_no_shell(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_MODULES
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
        if isinstance(node, ast.Call):
            assert not {word.arg for word in node.keywords} & FORBIDDEN_ARGUMENTS
            if isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS
            if isinstance(node.func, ast.Attribute):
                allowed = {"create_subprocess_exec"} if path == STARTS_A_PROCESS else set()
                assert node.func.attr not in FORBIDDEN_METHODS - allowed
        assert not isinstance(node, ast.Assert), "gone under python -O"


# Below these stand published vulnerabilities. Where no index of them can be reached, this table stands in for it.
FLOORS = {
    "fastapi": "0.133",
    "h11": "0.16",
    "onnx": "1.21.0",
    "onnxruntime": "1.30.1",
    "pillow": "12.3.0",
    "python-multipart": "0.0.32",
    "redis": "8",
    "starlette": "1.3.1",
    "uvicorn": "0.51",
}


@pytest.mark.parametrize(("package", "floor"), FLOORS.items())
def test_no_package_is_older_than_its_last_hole(package, floor):
    assert Version(version(package)) >= Version(floor)


def test_triton_has_the_same_onnxruntime():
    """Its environment is one of its own (numpy below 2); all else in it is as in constraints.txt."""
    ours, tritons = (
        {line.strip() for line in (ROOT / file).read_text().splitlines() if line.strip() and not line.startswith("#")}
        for file in ("constraints.txt", "deploy/triton/requirements.txt")
    )
    assert {pin.partition("==")[0] for pin in tritons - ours} == {"numpy", "nvidia-pytriton"}

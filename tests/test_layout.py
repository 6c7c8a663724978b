"""The shape of the project: layers, sizes, names, and what an import may cost."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import helmflow

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "helmflow"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [str(file.relative_to(PACKAGE)) for file in FILES]
FILE_OF = {
    ".".join(("helmflow", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): file
    for file in FILES
}
PUBLIC = ["bijectors", "densities", "estimators", "objectives", "samplers", "training"]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "tools"}
HEAVY = ("torch", "openmm", "ase", "numba", "matplotlib", "pymbar", "scipy", "numpy", "spglib")


def trees():
    for file in FILES:
        yield file, ast.parse(file.read_text())


def test_layers():
    """`lint-imports` as a developer runs it, on the contract in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(
        [*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "KEPT" in done.stdout.upper()


def imported_by(module):
    """The modules that one names, in imports or as the home of a public name."""
    names = set()
    for node in ast.walk(ast.parse(FILE_OF[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.partition(":")[0]
            package = (
                module.rpartition(".")[0] if FILE_OF[module].name != "__init__.py" else module
            )
            names |= {text, f"{package}.{text}", f"helmflow.energies.{text}"}
    return names & set(FILE_OF)


def test_nothing_is_on_the_shelf():
    """Every module is reached by the commands or by a public name."""
    reached = set()
    waiting = ["helmflow.cli", *(module for module in FILE_OF if has_public_names(module))]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += imported_by(module)
    packages = {module for module in FILE_OF if FILE_OF[module].name == "__init__.py"}
    assert not set(FILE_OF) - reached - packages


def has_public_names(module):
    return FILE_OF[module].name == "__init__.py" and "__all__" in FILE_OF[module].read_text()


@pytest.mark.parametrize("package", PUBLIC)
def test_names_of_public_packages_exist_and_are_in_the_documentation(package):
    pages = "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
    module = importlib.import_module(f"helmflow.{package}")
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`|import .*\b{name}\b", pages), name


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_short(module):
    text = (PACKAGE / module).read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION + 1, node.name


def test_names_say_what_is_inside():
    for file in FILES:
        parts = {*file.relative_to(PACKAGE).with_suffix("").parts}
        assert not parts & FORBIDDEN_NAMES, file


@pytest.mark.parametrize("module", MODULES)
def test_no_code_from_data_and_no_silent_failures(module):
    """No pickle, eval or exec, no print or assert; a broad except raises again."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        assert not isinstance(node, ast.Assert)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "dill", "joblib", "cloudpickle"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "print", "compile", "__import__"}
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            broad = caught in {"everything", "Exception", "BaseException"}
            assert not broad or isinstance(node.body[-1], ast.Raise)


def test_words_that_stay_out():
    pattern = re.compile(r"\bpickle\.|\beval\(|\bTODO\b|\bFIXME\b|\bXXX\b|weights_only=False")
    for file in FILES:
        found = pattern.search(file.read_text())
        assert found is None, f"{file}: {found}"


def test_relative_imports_are_not_used():
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, file


@pytest.mark.parametrize("name", helmflow.__all__)
def test_public_names_exist_and_are_documented(name):
    thing = getattr(helmflow, name)
    assert inspect.getdoc(thing)
    assert thing.__module__.startswith("helmflow")
    if inspect.isclass(thing):
        for attribute, member in vars(thing).items():
            if attribute.startswith("_") or not callable(member):
                continue
            assert inspect.getdoc(getattr(thing, attribute)), f"{name}.{attribute}"


def test_public_names_are_sorted_and_complete():
    assert list(helmflow.__all__) == sorted(helmflow.__all__)
    assert set(helmflow.__all__) <= set(dir(helmflow))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = helmflow.nonsense


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_public_definitions_are_documented(module):
    tree = ast.parse((PACKAGE / module).read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_import_costs_nothing():
    loaded = f"', '.join(m for m in {HEAVY!r} if m in sys.modules)"
    code = f"import sys, helmflow\nsys.exit({loaded} or 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_importing_the_library_says_nothing():
    """Every module can be imported by itself without output or warnings."""
    names = ", ".join(
        "helmflow." + ".".join(Path(module).with_suffix("").parts)
        for module in MODULES
        if not module.endswith("__init__.py")
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:helmflow", "-c", f"import {names}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""

"""What the documentation shows is true: blocks run, commands exist, links lead somewhere."""

import contextlib
import io
import re
import shlex
import tomllib
from pathlib import Path
from textwrap import dedent

import ase.build
import pytest
import typer.main

import helmflow
from helmflow.cli import app
from helmflow.errors import InputError
from helmflow.settings import load_settings
from helmflow.system import load_system, shipped_systems

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN_CRYSTAL = (ROOT / "docs" / "how_to_own_crystal.md").read_text()
NUMBER = re.compile(r"F/N = (-?\d+\.(\d+))\((\d+)\)")


def blocks(language):
    """Fenced blocks of one language in all pages, with a name for the test report."""
    return [
        pytest.param(dedent(match[1]), id=f"{page.stem}-{k}")
        for page in PAGES
        for k, match in enumerate(re.finditer(rf"```{language}\n(.*?)```", page.read_text(), re.S))
    ]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks(code, tmp_path, monkeypatch):
    """Scripts (they import something) run; fragments at least parse."""
    monkeypatch.chdir(tmp_path)
    program = compile(code, "block", "exec")
    if re.search(r"^(import|from) ", code, re.M):
        exec(program, {})


def value_and_error(match):
    return float(match[1]), int(match[3]) / 10 ** len(match[2])


def test_output_in_the_readme_is_what_its_block_prints():
    readme = (ROOT / "README.md").read_text()
    code, shown = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", readme, re.S).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README", "exec"), {})
    assert len(printed.getvalue().splitlines()) == len(shown.splitlines())
    (ours, bar), (theirs, other) = (
        value_and_error(NUMBER.search(text)) for text in (printed.getvalue(), shown)
    )
    assert abs(ours - theirs) < 5.0 * (bar**2 + other**2) ** 0.5


def write_system(text, folder):
    """The text as a system file with argon on its fcc lattice as the structure it names."""
    table = tomllib.loads(text)
    crystal = ase.build.bulk("Ar", "fcc", a=5.31, cubic=True) * 3
    crystal.write(folder / table["structure"]["file"])
    path = folder / "system.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks_load(text, tmp_path):
    if tomllib.loads(text).get("kind") == "density":
        path = tmp_path / "density.toml"
        path.write_text(text)
        assert load_system(path).manifold is not None
    elif "schema" in tomllib.loads(text):
        system = load_system(write_system(text, tmp_path))
        assert system.n_particles == 108
    else:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        assert load_settings(path, {}) != load_settings(None, {})


MISTAKES = {
    "typo": ("epsilon", "epsilom"),
    "images": (', images = "all"', ""),
    "missing file": ('"argon.extxyz"', '"argn.extxyz"'),
    "unit": ('"eV"', '"ev"'),
    "two temperatures": ("temperature = 40.0", "temperature = 40.0, beta = 3.0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_error_messages_are_quoted_word_for_word(mistake, tmp_path):
    readme = (ROOT / "README.md").read_text()
    text = re.search(r"```toml\n(.*?)```", readme, re.S)[1]
    path = write_system(text, tmp_path)
    path.write_text(text.replace(*MISTAKES[mistake]))
    with pytest.raises(InputError) as refusal:
        load_system(path)
    assert f"`{str(refusal.value).replace(f'{tmp_path}/', '')}`" in OWN_CRYSTAL


def command_lines():
    pattern = re.compile(
        r"^(?: {4}|\$ )(?:\$ )?(helmflow .*)$|`(helmflow [a-z]+(?: [^`]*)?)`", re.M
    )
    found = {
        (match[1] or match[2]).split(" && ")[0]
        for p in PAGES
        for match in pattern.finditer(p.read_text())
    }
    return sorted(found)


@pytest.mark.parametrize("line", command_lines())
def test_commands_exist(line):
    program = typer.main.get_command(app)
    name, *arguments = shlex.split(line)[1:]
    if name.startswith("-"):
        assert any(name in option.opts for option in program.params)
        return
    command = program.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= known
    if arguments:
        command.make_context(name, list(arguments))  # parses, does not run
    if name == "run" and arguments and arguments[0].islower() and "." not in arguments[0]:
        assert arguments[0] in {system.name for system in shipped_systems()}


def anchors(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_public_name_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    assert [name for name in helmflow.__all__ if f"`{name}" not in index] == []


def test_install_commands_name_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for page in PAGES:
        for named in re.findall(r'pip install (?:-e )?"\.\[([\w,]+)\]"', page.read_text()):
            assert set(named.split(",")) <= set(extras), page.name


def test_changelog_begins_with_numbers_that_changed():
    changelog = (ROOT / "docs" / "CHANGELOG.md").read_text()
    release = changelog.partition("\n## ")[2]
    assert re.search(r"^### (.+)$", release, re.M)[1] == "Numbers that changed"

"""The systems that come with the package, as data in `systems/`."""

from pathlib import Path
from typing import NamedTuple

from helmflow.errors import InputError
from helmflow.system.kinds import TABLES
from helmflow.system.reference import Reference
from helmflow.system.schema import SystemTable
from helmflow.tables import nearest, parse_table, read_toml


class ShippedSystem(NamedTuple):
    """One line of the catalogue; ``name`` is what `load_system` takes."""

    name: str
    summary: str
    references: tuple[Reference, ...]


def shipped_folder() -> Path:
    """`systems/`: inside the package when installed, beside `src/` in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_systems"
    return installed if installed.is_dir() else package.parents[1] / "systems"


def shipped_names() -> list[str]:
    """The names `load_system` takes, such as ``ice/mw_cubic_64``, by family and size."""
    folder = shipped_folder()
    files = (path.relative_to(folder).with_suffix("") for path in folder.glob("*/*.toml"))
    return sorted((path.as_posix() for path in files), key=_by_size)


def shipped_systems() -> list[ShippedSystem]:
    """Every shipped system with its summary and reference values, without building its energy."""
    folder = shipped_folder()
    catalogue = []
    for name in shipped_names():
        table = read_table(folder / f"{name}.toml")
        catalogue.append(ShippedSystem(name, table.summary, references_of(table)))
    return catalogue


def find_system(name_or_path: str | Path) -> Path:
    """The TOML file of a shipped name or a path; raises ``InputError`` when there is none."""
    given = str(name_or_path)
    path = Path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        return path
    names = shipped_names()
    if given in names:
        return shipped_folder() / f"{given}.toml"
    hint = nearest(given.removesuffix(".toml").removeprefix("systems/"), names)
    raise InputError("system", f"a shipped name or the path of a TOML file{hint}", repr(given))


def read_table(path: Path) -> SystemTable:
    """A system file checked against the schema of its kind; raises ``InputError``."""
    contents = read_toml(path, "system")
    kind = contents.get("kind")
    if not isinstance(kind, str) or kind not in TABLES:
        hint = nearest(str(kind), TABLES)
        got = "nothing" if kind is None else repr(kind)
        raise InputError("kind", f"one of {', '.join(TABLES)}{hint}", got)
    return parse_table(TABLES[kind], contents)


def references_of(table: SystemTable) -> tuple[Reference, ...]:
    """The reference values of a system file."""
    return tuple(
        Reference(
            quantity=entry.quantity,
            value=entry.value,
            stderr=entry.stderr,
            per=entry.per,
            source=entry.source,
            note=entry.note,
        )
        for entry in table.references
    )


def _by_size(name: str) -> tuple[str, int]:
    stem, _, size = name.rpartition("_")
    return (stem, int(size)) if size.isdigit() else (name, 0)

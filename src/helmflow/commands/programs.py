"""``--allow``: programs that files may name."""

from typing import Annotated

import typer

Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        help="A package or module whose calculators files may run; may be repeated.",
    ),
]


def allow_programs(packages: list[str] | None) -> None:
    """Let the files of this command name calculators of these packages, too."""
    from helmflow.energies.programs import allow

    allow(packages or [])

"""How commands end when something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from helmflow.errors import ConvergenceError, EnergyError, InputError


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """User mistakes: one line on stderr and exit code 2; a failed calculation: exit code 1."""
    try:
        yield
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except (EnergyError, ConvergenceError) as error:
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(1) from error

"""How commands end when something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
import typer.core

from helmflow.errors import ConvergenceError, EnergyError, InputError

# Typer has click's exceptions, from its own copy of click or from click, as its version goes.
UsageError: Any = typer.BadParameter.__mro__[1]


class OneLineGroup(typer.core.TyperGroup):
    """Commands whose unusable options and arguments end like all other mistakes."""

    def invoke(self, ctx: typer.Context) -> object:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            typer.echo(f"error: {' '.join(error.format_message().split())}", err=True)
            raise typer.Exit(2) from error


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
    except OSError as error:  # such as a full disk
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(1) from error

"""The command ``helmflow``. Heavy packages are imported inside the commands that need them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.combine import combine
from helmflow.commands.density import density
from helmflow.commands.estimate import estimate
from helmflow.commands.mbar import mbar
from helmflow.commands.mistakes import OneLineGroup
from helmflow.commands.mistakes import mistakes_in_one_line as _mistakes_in_one_line
from helmflow.commands.programs import Allow, allow_programs
from helmflow.commands.sample import sample
from helmflow.commands.tfep import merge, tfep
from helmflow.errors import ConvergenceError, EnergyError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from helmflow.results import Result, RunDirectory
    from helmflow.settings import Settings
    from helmflow.system import System

CHANGEABLE = ("threads", "max_evaluations")
"""Settings that a resumed run may be given anew."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = typer.Typer(
    cls=OneLineGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Free energies of crystals, molecules and fields, with errors that can be trusted.",
    epilog="Start with: helmflow systems; helmflow run ice/mw_cubic_8",
)


class Method(StrEnum):
    """Values of ``--method``."""

    auto = "auto"
    fep = "fep"
    bar = "bar"
    ti = "ti"
    frenkel_ladd = "frenkel_ladd"
    flow = "flow"


def _show_version(requested: bool) -> None:
    if requested:
        from helmflow.results import installed_versions

        typer.echo(f"helmflow {installed_versions().get('helmflow', 'unknown')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Free energies of crystals, molecules and fields, with errors that can be trusted."""
    with _mistakes_in_one_line():
        if not __debug__:  # libraries whose checks are assertions would compute on
            raise InputError("python", "no option -O, which takes checks out of libraries", "-O")
    # Threads that spin while they wait starve the other processes of a busy machine (seven times
    # the processor time was seen); OpenMP reads this once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@app.command()
def run(
    system: Annotated[str, typer.Argument(help="A name from `helmflow systems`, or a TOML file.")],
    method: Annotated[Method | None, typer.Option(help="The estimator of the headline.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random number.")] = None,
    target_error: Annotated[
        float | None,
        typer.Option(help="Standard error to reach: kT per particle; for lattice fields nats."),
    ] = None,
    max_evaluations: Annotated[int | None, typer.Option(help="Energies before giving up.")] = None,
    flow: Annotated[
        Path | None,
        typer.Option(help="Run directory or flow file to reuse; also of another size."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of a trained flow.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file; flags override it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory.  [default: runs/NAME]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an interrupted run.")] = False,
    threads: Annotated[int | None, typer.Option(help="Processor threads.")] = None,
    allow: Allow = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json instead.")] = False,
) -> None:
    """Compute a free energy with its error bar and grade."""
    flags = {
        "method": method and method.value,
        "seed": seed,
        "target_error": target_error,
        "max_evaluations": max_evaluations,
        "threads": threads,
        "flow": flow and {"source": str(flow)},
        "training": steps and {"steps": steps},
    }
    with _mistakes_in_one_line():
        from helmflow.results import RunDirectory, working_in
        from helmflow.system import identity_of, load_system

        allow_programs(allow)
        name, digest = identity_of(system)
        path = out or Path("runs") / name
        with working_in(path):
            if resume and RunDirectory.started(path):
                RunDirectory.resume(path, digest)  # before a changed file runs anything
            loaded = load_system(system)
            directory, accepted = _open(loaded, system, path, settings, flags, resume)
            with _ending(directory, f"helmflow run {system} --out {path} --resume"):
                result = _finish(loaded, accepted, directory)
        typer.echo(result.to_json() if as_json else _summary(result, directory.report))
    raise typer.Exit(1 if result.grade == "F" else 0)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="A directory written by `helmflow run`.")],
) -> None:
    """Write the report page of a finished run again."""
    with _mistakes_in_one_line():
        from helmflow.report.page import write_page
        from helmflow.results import RunDirectory

        typer.echo(write_page(RunDirectory.open(run_dir)))


@app.command()
def systems(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable list.")] = False,
) -> None:
    """List the systems that ship, with published reference values."""
    with _mistakes_in_one_line():
        from helmflow.report.tables import systems_json, systems_table
        from helmflow.system import shipped_systems

        shipped = shipped_systems()
        if as_json:
            typer.echo(systems_json(shipped))
        else:
            _console(stderr=False).print(systems_table(shipped))


@app.command()
def doctor() -> None:
    """Check this installation: kernels, energies, files (under half a minute)."""
    from helmflow.doctor import diagnose
    from helmflow.report.tables import checks_table

    with _console(stderr=True).status("checking"):
        checks = diagnose()
    _console(stderr=False).print(checks_table(checks))
    failed = [check.name for check in checks if not check.passed]
    typer.echo(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all is well")
    raise typer.Exit(1 if failed else 0)


app.command()(tfep)
app.command()(mbar)
app.command()(estimate)
app.command()(combine)
app.command()(density)
app.command()(sample)
app.command()(merge)


def _open(
    system: "System",
    name: str,
    path: Path,
    file: Path | None,
    flags: dict[str, object],
    resume: bool,
) -> "tuple[RunDirectory, Settings]":
    """The run directory and settings: new ones, or with ``resume`` those the run started with."""
    from helmflow.families import family_of
    from helmflow.results import RunDirectory
    from helmflow.settings import load_settings

    family = family_of(system)
    if not (resume and RunDirectory.started(path)):
        accepted = family.accept(load_settings(file, flags))
        made = RunDirectory.create(path, accepted.to_toml(), system.digest, system=name)
        return made, accepted
    directory = RunDirectory.resume(path, system.digest)
    again = {name: flags[name] for name in CHANGEABLE}
    started = load_settings(directory.path / "settings.toml", again)
    asked = family.accept(load_settings(file or directory.path / "settings.toml", flags))
    for name in type(started).model_fields:
        if name not in CHANGEABLE and getattr(asked, name) != getattr(started, name):
            raise InputError(
                name,
                f"{getattr(started, name)!s} (what {path} was started with)",
                getattr(asked, name),
            )
    return directory, family.accept(started)


def _finish(system: "System", settings: "Settings", directory: "RunDirectory") -> "Result":
    """Run what is left of a run, with progress on stderr; its result and page are then on disk."""
    from helmflow.report.page import write_page
    from helmflow.report.progress import ProgressDisplay
    from helmflow.results import Event

    if not directory.finished:
        import torch

        from helmflow.families import run as run_family

        torch.set_num_threads(settings.threads)
        with ProgressDisplay(_console(stderr=True)) as display:

            def progress(event: Event) -> None:
                directory.record(event)
                display(event)

            run_family(system, settings, directory, progress)
    if not directory.report.exists():
        write_page(directory)
    return directory.read_result()


def _summary(result: "Result", page: Path) -> str:
    """What a person reads after a run; the number is the last line."""
    from helmflow.report.tables import quality_lines, reference_lines

    compared = [*quality_lines(result), *reference_lines(result)]
    return "\n".join([result.reason, *compared, f"report: {page}", str(result)])


@contextmanager
def _ending(directory: "RunDirectory", command: str) -> Iterator[None]:
    """How a run that does not finish leaves its directory.

    Ctrl-C, energies that failed and a spent budget leave what was finished: the message says how
    to go on. A mistake leaves nothing, so that a corrected run can take its place.
    """
    from helmflow.skeleton.budget import BudgetError

    try:
        yield
    except KeyboardInterrupt as interrupt:
        typer.echo(f"\ninterrupted; finish it with: {command}", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt
    except (BudgetError, EnergyError, ConvergenceError) as error:
        if directory.resumable:
            more = " --max-evaluations MORE" if isinstance(error, BudgetError) else ""
            typer.echo(f"what was finished is kept; go on with: {command}{more}", err=True)
        else:
            directory.discard()
        raise
    except InputError:
        directory.discard()
        raise


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)

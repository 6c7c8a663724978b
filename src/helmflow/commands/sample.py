"""``helmflow sample``: exact configurations from the flow of a finished run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.mistakes import mistakes_in_one_line
from helmflow.commands.programs import Allow, allow_programs
from helmflow.errors import InputError

if TYPE_CHECKING:
    from helmflow.families.samples import FlowSamples

SUFFIXES = (".extxyz", ".xyz", ".npz", ".dcd", ".xtc")
SINGLE_PRECISION = (".dcd", ".xtc")


def sample(
    run_dir: Annotated[
        Path, typer.Argument(help="Of `helmflow run --method flow`, a density or a gauge theory.")
    ],
    out: Annotated[Path, typer.Option(help=f"File to write: {', '.join(SUFFIXES)}.")],
    n: Annotated[int, typer.Option("--n", min=2, help="Configurations.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of every random number.")] = 0,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Independent proposals with their log weights instead."),
    ] = False,
    allow: Allow = None,
) -> None:
    """Draw exact samples: flow proposals made exact by Metropolis, or with weights."""
    with mistakes_in_one_line():
        suffix = out.suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError("out", f"a file name that ends in {', '.join(SUFFIXES)}", out)
        if out.exists():
            raise InputError("out", "a new file", f"{out}, which exists")
        if weights and suffix in SINGLE_PRECISION:
            raise InputError("out", "extxyz or npz, which can hold weights", out)
        allow_programs(allow)
        if _in_one_go(run_dir):
            _from_flow_of_samples(run_dir, out, suffix, n, seed, weights=weights)
            return
        _check_kind(run_dir, out, suffix)
        from helmflow.families.samples import sample_flow

        samples = sample_flow(run_dir, n, seed=seed)
        _write(samples, out, suffix, weights=weights)
        if suffix in SINGLE_PRECISION:
            typer.echo(
                f"warning: {suffix} keeps single precision or less; use .extxyz or .npz to "
                "recompute energies",
                err=True,
            )
        acceptance = 100.0 * samples.chain.acceptance
        typer.echo(
            f"{out}: {n} {'weighted proposals' if weights else 'configurations'}, "
            f"{samples.n_eff:.0f} effective (acceptance {acceptance:.1f} %)"
        )


def _in_one_go(run_dir: Path) -> bool:
    """Whether this is the run of a command on files, which names no system."""
    from helmflow.results import RunDirectory

    return RunDirectory.open(run_dir).system.split(" ")[0] == "helmflow"


def _from_flow_of_samples(
    run_dir: Path, out: Path, suffix: str, n: int, seed: int, *, weights: bool
) -> None:
    """Draws from the flow of `helmflow density`: no energy is known that would make them exact."""
    from helmflow.families.density.likelihood import FORM, KIND
    from helmflow.skeleton.kept import read_flow

    flow, _ = FORM.unpack(read_flow(run_dir, [KIND], {}))
    if weights or suffix != ".npz":
        expected = "an .npz file without weights: the density is known by its samples alone"
        raise InputError("out", expected, "--weights" if weights else out)
    import torch

    from helmflow.families.configuration_files import write_arrays
    from helmflow.streams import stream

    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(n, stream(seed, "proposals"))
    write_arrays(out, {"x": x.numpy(), "log_q": log_q.numpy()})
    typer.echo(f"{out}: {n} independent samples of the fitted flow, with its log density")


def _check_kind(run_dir: Path, out: Path, suffix: str) -> None:
    """Only a crystal has particles, which all formats but one are for."""
    from helmflow.families.samples import system_of
    from helmflow.results import RunDirectory

    if suffix != ".npz" and system_of(RunDirectory.open(run_dir)).kind != "crystal":
        raise InputError("out", "an .npz file for a field, links or density", out)


def _write(samples: "FlowSamples", out: Path, suffix: str, *, weights: bool) -> None:
    from helmflow.families.configuration_files import write_extxyz, write_npz

    x = samples.proposals if weights else samples.configurations
    log_w = samples.log_weights if weights else None
    if suffix == ".npz":
        write_npz(out, x, log_w, samples.system)
    elif suffix in (".extxyz", ".xyz"):
        write_extxyz(out, x, log_w, samples.system)
    else:
        trajectory = samples.to_mdtraj()
        whole = out.with_name(f".{out.stem}.tmp{suffix}")
        save = trajectory.save_dcd if suffix == ".dcd" else trajectory.save_xtc
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            save(str(whole))
            whole.replace(out)
        except OSError as error:
            whole.unlink(missing_ok=True)
            raise InputError("out", "a file that can be written", error) from error

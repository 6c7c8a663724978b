"""System and settings in, result out: the one pipeline behind every family."""

from collections.abc import Mapping

from helmflow.errors import InputError
from helmflow.families.registry import family_of
from helmflow.results import Result, RunDirectory
from helmflow.settings import Method, Settings
from helmflow.skeleton.run import Listen, Run, silent
from helmflow.system import System
from helmflow.tables import parse_table


def run(
    system: System,
    settings: Settings,
    directory: RunDirectory | None = None,
    listen: Listen = silent,
) -> Result:
    """Compute the free energy of a system until ``target_error`` is met.

    With a ``directory`` stages are kept as they are finished, an interrupted run ends with the
    same numbers when it is repeated, and ``work.npz`` and ``result.json`` are written.
    """
    family = family_of(system)
    this_run = Run(system.name, family.accept(settings), directory, listen)
    this_run.quantity = family.quantity
    finding = family.estimate(this_run)
    result = this_run.conclude(family.quantity, finding)
    this_run.tell("done", estimate=finding.headline)
    return result


def free_energy(
    system: System,
    *,
    method: Method | None = None,
    seed: int | None = None,
    target_error: float | None = None,
    settings: Settings | Mapping[str, object] | None = None,
    progress: Listen = silent,
) -> Result:
    """Free energy of a system, or ln Z of a field or density, with error and certificate.

    ``method`` names the estimator: "auto" (for a crystal thermodynamic integration with control
    variates, cross-checked), "ti" (without them), "bar" and "fep" (one stage), "frenkel_ladd"
    (Einstein crystal), "flow" (a fitted flow, cross-checked by integration). ``target_error`` is
    the standard error to reach, in kT per particle for crystals and in nats for fields.
    ``settings`` are all others, as a mapping such as ``{"max_evaluations": 10_000, "sampling":
    {"nodes": 8}}`` or a `Settings`; the keywords have the last word. Nothing is written;
    ``helmflow run`` keeps a directory instead. Raises InputError for what does not apply.
    """
    keywords = {"method": method, "seed": seed, "target_error": target_error}
    named = {name: value for name, value in keywords.items() if value is not None}
    if isinstance(settings, Settings):
        table = settings.model_dump(exclude_unset=True)
    elif settings is None or isinstance(settings, Mapping):
        table = dict(settings or {})
    else:
        raise InputError("settings", "a mapping or Settings", type(settings).__name__)
    return run(system, parse_table(Settings, table | named), None, progress)

"""A flow of a lattice field: trained small, used larger, mixed with HMC, moved in the coupling.

Learnt here: train a flow of phi^4 on 4 x 4 sites and read ln Z; use its weights on 8 x 8; let
its proposals and HMC take turns; get d<phi^2>/d lambda from ensembles that the fitted map makes
from one another. Takes 30 seconds of processor time.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import helmflow as hf
from helmflow.energies.phi4 import Phi4
from helmflow.families import family_of, run
from helmflow.families.field_response import field_response
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.results import RunDirectory
from helmflow.samplers.mixed import MixedChains
from helmflow.settings import Settings, TrainingSettings
from helmflow.streams import stream

SMOKE = os.environ.get("SMOKE") == "1"
small, large = (hf.load_system(f"lattice/phi4_{n}") for n in (4, 8))
steps, n = (60, 2_000) if SMOKE else (400, 20_000)
settings = Settings(method="flow", target_error=0.02, training=TrainingSettings(steps=steps))
settings = family_of(small).accept(settings)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "run"
    directory = RunDirectory.create(path, settings.to_toml(), small.digest, system=small.name)
    result = run(small, settings, directory, lambda event: None)
    print(f"{result}, exact {small.references[0].value}")
    own, wide = (hf.load_flow(path, system)[0] for system in (small, large))

for name, system, flow in (("4 x 4", small, own), ("8 x 8", large, wide)):
    x, log_q = flow.sample_and_log_prob(n, stream(1, "draws"))
    work = LatticeProblem(system).target(x)[0] + log_q
    f, exact = hf.fep(work), system.references[0].value
    print(f"{name}: ESS {hf.kish_ess(-work) / n:.1%}, -ln Z = {f}, exact {-exact:.4f}")

potential = LatticeProblem(large).target
chains = MixedChains(wide, potential, 100, step=0.1, n_steps=8, generator=stream(2, "mixed"))
chains.run(5)
phi2 = chains.run(10 if SMOKE else 50).square().mean((0, 2))
print(f"<phi^2> = {phi2.mean():.4f} +- {phi2.std() / 10:.4f} by flow and HMC in turn, ", end="")
print(f"exact {large.references[2].value:.4f}; acceptance of the flow {chains.acceptance:.0%}")


def family(coupling):
    """The potential of 8 x 8 sites at another coupling, as a function of flat fields."""
    energy = Phi4((8, 8), mass_squared=-4.0, coupling=coupling)
    return LatticeProblem(replace(large, energy=energy)).target


square = lambda x: x.square().mean(1)  # noqa: E731
found = field_response(x, (8, 8), family, 8.0, square, delta=0.2, log_w=-work)
print(f"d<phi^2>/d lambda = {found.transported}, without map {found.reweighted};")
print(f"variance of independent ensembles {found.gain_over_independent:.0f} times larger")

"""The absolute free energy of cubic ice, and how far to trust it.

Learnt here: load a shipped system, compute F/N with an error bar, read the certificate, compare
with the published value and with bounds that need no estimator. Takes about 5 seconds of
processor time (the first run compiles for another 10); SMOKE=1 takes a smaller crystal.
"""

import math
import os

import helmflow as hf

SMOKE = os.environ.get("SMOKE") == "1"

system = hf.load_system("ice/mw_cubic_8" if SMOKE else "ice/mw_cubic_64")
print(system.summary)
print(f"{system.n_particles} particles at {system.temperature} K, {system.convention}")

result = hf.free_energy(system, seed=0, target_error=1e-3 if SMOKE else 1e-4)
print(f"\n{result}\n{result.reason}")
for check in result.checks:
    print(f"  {'ok  ' if check.passed else 'FAIL'} {check.name:24s} {check.value:8.3g}", end="")
    print(f"  needs {check.relation} {check.limit:.3g}  ({check.explanation})")

# The same samples, seen by other estimators: they must agree within their errors.
for row in result.estimates:
    print(f"  {row.method:8s} {row.value:.5f} +- {row.stderr:.5f}")

# Bounds from the mean works (Gibbs and Bogoliubov): one above, one below, no estimator needed.
bounds = result.bounds
print(f"  bounds   {bounds.lower:.4f} <= {result.symbol} <= {bounds.upper:.4f}")

for published in result.references:
    sigma = published.deviation_sigma
    agreement = "" if sigma is None else f", {sigma:+.1f} sigma away"
    print(f"published {published.value} ({published.source}){agreement}")

# Finite-size theory: F/N + ln N / N approaches the bulk almost linearly in 1/N.
n = system.n_particles
print(f"F/N + ln N / N = {result.value + math.log(n) / n:.5f} kT")
for row in result.other_units:
    print(f"            F/N = {row.value:.6f} +- {row.stderr:.6f} {row.unit}")
print(f"{result.cost.energy_evaluations} energies, {result.cost.cpu_seconds:.1f} CPU seconds")

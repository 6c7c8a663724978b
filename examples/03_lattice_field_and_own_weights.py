"""ln Z of a lattice field, and the same estimators on work values of your own.

Learnt here: ln Z of phi^4 against its exact value; then how `fep`, `bar`, `kish_ess`, `pareto_k`,
`integrated_autocorrelation` and `independence_metropolis` judge a proposal that you bring
yourself (a flow, a Gaussian, anything with samples and log q). Takes 5 seconds of processor time.
"""

import os

import torch

import helmflow as hf

SMOKE = os.environ.get("SMOKE") == "1"

system = hf.load_system("lattice/phi4_4")
exact = system.references[0].value
result = hf.free_energy(system, seed=0, target_error=0.05 if SMOKE else 0.01)
print(f"{result}, exact {exact:.5f}")
for row in result.observables:
    print(f"  {row.name:24s} {row.value:.4f} +- {row.stderr:.4f}, tau_int {row.tau_int:.2f}")

# A proposal of your own: the free field of mass^2 = 1/2, a Gaussian with the right correlations
# between neighbours and without the interaction.
generator = torch.Generator().manual_seed(1)
n, sites = (5_000 if SMOKE else 50_000), 16
eye = torch.eye(sites, dtype=torch.float64)
action = lambda x: system.reduced_potential(x.view(-1, 4, 4))  # noqa: E731
kinetic = torch.autograd.functional.hessian(lambda x: action(x).sum(), 0 * eye[0])
q = torch.distributions.MultivariateNormal(0 * eye[0], precision_matrix=kinetic + 9 * eye)
x = torch.randn(n, sites, generator=generator, dtype=torch.float64) @ q.scale_tril.T
w_forward = hf.density_work(x, q.log_prob(x), action)  # u(x) + log q(x)
log_w = -w_forward
print(f"\nESS {hf.kish_ess(log_w) / n:.1%} of {n}, k-hat {hf.pareto_k(log_w):.2f}")
forward = hf.fep(w_forward)
print(f"ln Z = {-forward.value:.4f} +- {forward.stderr:.4f} by {forward.method}")

# Independence Metropolis turns the proposals into a chain of the target, whose works are the
# reverse works of BAR. Repeated states are correlated: g says by how much.
chain = hf.independence_metropolis(log_w, generator)
w_reverse = -w_forward[chain.index]
g = hf.integrated_autocorrelation(w_reverse).g
both = hf.bar(w_forward, w_reverse, g=(1.0, g))
print(f"acceptance {chain.acceptance:.2f}, longest rejection {chain.longest_rejection}, g {g:.1f}")
print(f"ln Z = {-both.value:.4f} +- {both.stderr:.4f} by {both.method}", end="")
print(f", overlap {both.diagnostics['overlap']:.2f}")

# Any observable, reweighted from the proposals.
susceptibility = hf.reweight(sites * x.mean(1).square(), log_w)
print(f"chi_2 = {susceptibility}, exact {system.references[1].value:.4f}")

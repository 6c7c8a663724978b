"""Free energies of crystals, molecules and fields by flows, with errors that can be trusted.

    import helmflow as hf

    result = hf.free_energy(hf.load_system("ice/mw_cubic_64"), seed=0)
    print(result)  # F/N = -25.1632(1) kT  (ti+cv; grade A)

Every name below is imported on first use, so that ``import helmflow`` costs nothing.
"""

from helmflow.namespaces import on_first_use

_HOME = {
    "AnnealedPath": "helmflow.samplers.annealed",
    "CalculatorEnergy": "helmflow.energies.ase_molecule",
    "Estimate": "helmflow.estimators.estimate",
    "InputError": "helmflow.errors",
    "Result": "helmflow.results",
    "MixedChains": "helmflow.samplers.mixed",
    "OpenMMEnergy": "helmflow.energies.openmm",
    "System": "helmflow.system",
    "TargetedResult": "helmflow.families.two_states.targeted",
    "ThermodynamicState": "helmflow.thermo",
    "bar": "helmflow.estimators.bar",
    "check_energy": "helmflow.doctor",
    "equilibration": "helmflow.estimators.equilibration",
    "density_work": "helmflow.generalised_work",
    "estimate": "helmflow.families.two_states.from_potentials",
    "fep": "helmflow.estimators.fep",
    "fit_samples": "helmflow.families.density.from_samples",
    "field_response": "helmflow.families.field_response",
    "free_energy": "helmflow.families",
    "independence_metropolis": "helmflow.samplers.independence",
    "integrated_autocorrelation": "helmflow.estimators.autocorrelation",
    "kish_ess": "helmflow.estimators.reweighting",
    "load_flow": "helmflow.families.samples",
    "load_system": "helmflow.system",
    "mbar": "helmflow.estimators.mbar",
    "merge_shards": "helmflow.families.two_states.shards",
    "pareto_k": "helmflow.estimators.diagnostics",
    "read_potentials": "helmflow.data",
    "reweight": "helmflow.estimators.reweighting",
    "sample_flow": "helmflow.families.samples",
    "shipped_systems": "helmflow.system",
    "targeted_fep": "helmflow.families.two_states.targeted",
    "temperature_perturbation": "helmflow.families.two_states.temperature",
    "GaussianFit": "helmflow.training.map_fit",
    "MoleculeFit": "helmflow.training.molecule_fit",
    "PeriodicFit": "helmflow.training.periodic_fit",
    "SolventFit": "helmflow.training.solvent_fit",
    "Surroundings": "helmflow.bijectors.moved_molecules",
    "VolumeScaling": "helmflow.bijectors.affine",
    "multistate": "helmflow.families.two_states.multistate",
    "parameter_slopes": "helmflow.families.two_states.solvent_path",
    "surroundings": "helmflow.families.two_states.openmm_maps",
    "openmm_state": "helmflow.families.two_states.openmm_files",
    "openmm_states": "helmflow.families.two_states.parameters",
    "PotentialReporter": "helmflow.families.two_states.reporter",
    "with_boxes": "helmflow.energies.constant_pressure",
    "work": "helmflow.generalised_work",
    "work_shard": "helmflow.families.two_states.shards",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

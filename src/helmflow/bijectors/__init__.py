"""Invertible maps with their log-determinants.

The names below are what flows are built from; each is imported on first use. `docs/manifolds.md`
says which map is for what.
"""

from helmflow.namespaces import on_first_use

_HOME = {
    "Affine": "helmflow.bijectors.affine",
    "Bends": "helmflow.bijectors.elementwise",
    "Bijector": "helmflow.bijectors.base",
    "Chain": "helmflow.bijectors.base",
    "CircularShift": "helmflow.bijectors.particle_coupling",
    "CircularSpline": "helmflow.bijectors.splines",
    "Composed": "helmflow.bijectors.elementwise",
    "Conjugated": "helmflow.bijectors.conjugated",
    "Coupling": "helmflow.bijectors.coupling",
    "DenseAffine": "helmflow.bijectors.affine",
    "Elementwise": "helmflow.bijectors.elementwise",
    "FourierPotential": "helmflow.bijectors.potentials",
    "GaussianEncoder": "helmflow.bijectors.hamiltonian",
    "GivenTorsions": "helmflow.bijectors.given_torsions",
    "HamiltonianFlow": "helmflow.bijectors.hamiltonian",
    "HarmonicScaling": "helmflow.bijectors.affine",
    "Identity": "helmflow.bijectors.base",
    "InCell": "helmflow.bijectors.conjugated",
    "InternalCoordinates": "helmflow.bijectors.internal",
    "Inverse": "helmflow.bijectors.base",
    "LineAutoregressive": "helmflow.bijectors.product_flow",
    "LoopCouplings": "helmflow.bijectors.loop_couplings",
    "MoebiusMixture": "helmflow.bijectors.circle_maps",
    "Part": "helmflow.bijectors.conjugated",
    "ParticleCoupling": "helmflow.bijectors.particle_coupling",
    "Pinned": "helmflow.bijectors.conjugated",
    "Places": "helmflow.bijectors.given_torsions",
    "ProductAutoregressive": "helmflow.bijectors.product_flow",
    "ProjectionMixture": "helmflow.bijectors.circle_maps",
    "ProjectiveLinear": "helmflow.bijectors.sphere_flows",
    "RadialPotential": "helmflow.bijectors.potentials",
    "RationalQuadraticSpline": "helmflow.bijectors.splines",
    "RecursiveSphere": "helmflow.bijectors.sphere_flows",
    "Rotation": "helmflow.bijectors.circle_maps",
    "ShiftScale": "helmflow.bijectors.elementwise",
    "SineFlow": "helmflow.bijectors.sine_flow",
    "SpectralFlow": "helmflow.bijectors.spectral",
    "SpherePotentialMap": "helmflow.bijectors.potential_map",
    "SphereRotation": "helmflow.bijectors.sphere_flows",
    "SymmetrisedPotential": "helmflow.bijectors.potentials",
    "TorusAutoregressive": "helmflow.bijectors.torus_flows",
    "TorusCoupling": "helmflow.bijectors.torus_flows",
    "TorusFrame": "helmflow.bijectors.torus_flows",
    "TorusPotentialMap": "helmflow.bijectors.potential_map",
    "VolumeScaling": "helmflow.bijectors.affine",
    "checkerboard_couplings": "helmflow.bijectors.checkerboard",
    "circle_map": "helmflow.bijectors.torus_flows",
    "conjugated": "helmflow.bijectors.conjugated",
    "local_couplings": "helmflow.bijectors.local_coupling",
    "particle_couplings": "helmflow.bijectors.particle_coupling",
    "spread_points": "helmflow.manifolds.sphere",
    "z_matrix": "helmflow.bijectors.internal",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

"""Energies from the [potential] table: its keys are the arguments of the energy's constructor."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, get_type_hints

from pydantic import create_model

from helmflow.energies.base import Energy
from helmflow.errors import InputError
from helmflow.tables import ClosedTable, nearest, parse_table

EnergyFactory = Callable[..., Energy]

ENERGIES: Mapping[str, str] = MappingProxyType(
    {
        "lennard_jones": "lennard_jones:LennardJones",
        "mie": "mie:Mie",
        "morse": "morse:Morse",
        "buckingham": "buckingham:Buckingham",
        "uhlenbeck_ford": "uhlenbeck_ford:UhlenbeckFord",
        "stillinger_weber": "stillinger_weber:StillingerWeber",
        "ase": "ase:calculator_energy",
        "phi4": "phi4:Phi4",
        "yukawa": "yukawa:Yukawa",
        "u1_wilson": "gauge:U1Wilson",
        "su_wilson": "wilson:SUWilson",
        "single_link": "wilson:SingleLink",
        "schwinger": "schwinger:Schwinger",
        "growing_sphere": "growing_sphere:GrowingSphere",
        "torus_mixture": "torus:TorusMixture",
        "torus_cosines": "torus:TorusCosines",
        "xy_ring": "torus:XYRing",
        "planar_arm": "torus:PlanarArm",
        "checkerboard": "torus:Checkerboard",
        "sines_and_cosines": "rugged:SinesAndCosines",
        "sphere_mixture": "sphere:SphereMixture",
        "axial_mixture": "sphere:AxialMixture",
        "watson": "sphere:Watson",
        "power_spherical": "sphere:PowerSpherical",
        "spherical_cauchy": "sphere:SphericalCauchy",
        "dipole_on_spring": "product:DipoleOnSpring",
        "matrix_fisher": "rotation:MatrixFisher",
    }
)
"""Kinds that come with the package, as "module:name" within `helmflow.energies`."""

SUPPLIED = ("atoms", "cell_matrix", "reference", "shape")
"""Arguments that come from [structure] or [field] and never from [potential]."""


def energy_factory(
    potential: Mapping[str, object], energies: Mapping[str, EnergyFactory | str]
) -> EnergyFactory:
    """The constructor that ``potential.kind`` names; raises ``InputError`` for an unknown one."""
    kind = potential.get("kind")
    if kind is None:
        raise InputError("potential.kind", f"one of {', '.join(energies)}", "nothing")
    if not isinstance(kind, str) or kind not in energies:
        hint = nearest(str(kind), energies)
        raise InputError("potential.kind", f"one of {', '.join(energies)}{hint}", repr(kind))
    factory = energies[kind]
    if not isinstance(factory, str):
        return factory
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(f"helmflow.energies.{module}"), name)


def build_energy(
    factory: EnergyFactory, potential: Mapping[str, object], supplied: Mapping[str, object]
) -> Energy:
    """Call the constructor with what it asks for by name.

    Arguments found in ``supplied`` (the sites and the cell, say) come from there and cannot be
    written in the file; the file must give the others, in the constructor's types. Raises
    ``InputError`` for an unknown, missing or ill-typed argument, and whatever the constructor
    finds wrong with the values.
    """
    asked = inspect.signature(factory).parameters
    lacking = [name for name in SUPPLIED if name in asked and name not in supplied]
    if lacking:
        kind = f"'{potential['kind']}', which needs {lacking[0]}"
        raise InputError("potential.kind", "a potential for this kind of system", kind)
    given = {name: value for name, value in supplied.items() if name in asked}
    table = {name: value for name, value in potential.items() if name != "kind"}
    model = _arguments_model(factory, omit=given)
    arguments = parse_table(model, table, at="potential")
    written = {name: getattr(arguments, name) for name in model.model_fields}
    return factory(**given, **written)


class _Arguments(ClosedTable, arbitrary_types_allowed=True):
    """The arguments of one constructor; the fields are added from its signature."""


def _arguments_model(factory: EnergyFactory, omit: Mapping[str, object]) -> type[_Arguments]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    empty = inspect.Parameter.empty
    asked = {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in omit and parameter.kind not in variadic
    }
    written = {name: parameter.annotation for name, parameter in asked.items()}
    function = factory.__init__ if inspect.isclass(factory) else factory
    # Only the annotations needed here: those of supplied arguments may name lazy imports.
    types = get_type_hints(
        SimpleNamespace(
            __annotations__={
                name: Any if kind is empty else kind for name, kind in written.items()
            }
        ),
        globalns=getattr(function, "__globals__", {}),
    )
    fields: dict[str, Any] = {
        name: (types[name], ... if parameter.default is empty else parameter.default)
        for name, parameter in asked.items()
    }
    return create_model("Arguments", __base__=_Arguments, **fields)

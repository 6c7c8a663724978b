"""Which settings a run of method "flow" depends on."""

from collections.abc import Collection

from helmflow.errors import InputError
from helmflow.settings import Settings

TRAINING = frozenset(
    f"training.{key}"
    for key in (
        *("objective", "steps", "batch", "learning_rate", "warm_up", "clip_norm", "ema_decay"),
        *("micro_batch", "checkpoint_every"),
    )
)
NETWORKS = {
    "local": ("layers", "width", "reach", "precision"),
    "coupling": ("layers", "width", "bins", "frequencies", "precision", "half_gradients"),
    "coupling of a field": ("layers", "precision"),
    "continuous": ("width", "precision"),
}


def flow_reads(settings: Settings, kinds: Collection[str], noun: str) -> set[str]:
    """The keys of [flow], [training] and [network]; raises InputError for another kind of flow."""
    flow, kind = settings.flow, str(settings.flow.kind)
    if kind not in kinds:
        raise InputError("flow.kind", f"{' or '.join(kinds)} for {noun}", repr(kind))
    keys = {"flow.kind", "flow.source", "flow.sweeps"}
    of_a_field = "continuous" in kinds
    stepped = kind in ("transport", "continuous")
    if kind != "transport" and flow.source is None:
        keys |= TRAINING
        network = f"{kind} of a field" if of_a_field and kind == "coupling" else kind
        keys |= {f"network.{key}" for key in NETWORKS[network]}
        if not of_a_field:
            keys |= {"flow.start", "training.softened"}
            stepped = flow.start == "transport"
    return keys | {"flow.steps"} if stepped else keys

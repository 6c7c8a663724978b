"""Stochastic and least-squares fits, and what they keep; names are imported on first use."""

from helmflow.namespaces import on_first_use

_HOME = {
    "BlackBoxPlan": "helmflow.training.black_box",
    "Cosine": "helmflow.training.plan",
    "Drops": "helmflow.training.plan",
    "LeastSquaresPlan": "helmflow.training.least_squares",
    "ReplayPlan": "helmflow.training.replay",
    "TemperingPlan": "helmflow.training.potential_fit",
    "TrainingPlan": "helmflow.training.plan",
    "fit_potential": "helmflow.training.potential_fit",
    "fit_with_replay": "helmflow.training.replay",
    "fit_without_gradient": "helmflow.training.black_box",
    "natural_gradient": "helmflow.training.flow_fit",
    "refine_flow": "helmflow.training.flow_fit",
    "torchrun_group": "helmflow.training.distributed",
    "train": "helmflow.training.stochastic",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)

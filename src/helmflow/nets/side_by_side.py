"""Several small networks of one shape, evaluated together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helmflow.nets.mlp import Constant, Mlp


def side_by_side(nets: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """Outputs (batch, K, n_out) of K networks, the k-th of the first columns of inputs[:, k].

    ``inputs`` (batch, K, n); a network of fewer than n inputs ignores the columns after its own.
    One product of matrices per layer, where one network after the other would take K. All are
    `Mlp` with the same hidden layers, or `Constant`.
    """
    learned = [k for k, net in enumerate(nets) if isinstance(net, Mlp)]
    constant = [k for k, net in enumerate(nets) if isinstance(net, Constant)]
    parts = []
    if constant:
        values = torch.stack([nets[k].value for k in constant])
        parts.append(values.expand(len(inputs), -1, -1))
    if learned:
        parts.append(_together([nets[k] for k in learned], inputs[:, learned]).transpose(0, 1))
    place = torch.tensor([*constant, *learned]).argsort()
    return torch.cat(parts, 1)[:, place]


def _together(nets: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """Outputs (K, batch, n_out) of networks of the same layers."""
    x = inputs.transpose(0, 1)
    for layers in zip(*(net.layers for net in nets), strict=True):
        if isinstance(layers[0], nn.Linear):
            weights = nn.utils.rnn.pad_sequence([layer.weight.T for layer in layers], True)
            biases = torch.stack([layer.bias for layer in layers])
            x = torch.baddbmm(biases.unsqueeze(1), x[..., : weights.shape[1]], weights)
        else:
            x = layers[0](x)
    return x

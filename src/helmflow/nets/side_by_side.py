"""Several small networks of one shape, evaluated together."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from helmflow.nets.mlp import Constant, Mlp


def side_by_side(nets: Iterable[nn.Module], inputs: Tensor) -> Tensor:
    """Outputs (batch, K, n_out) of K networks, the k-th of the first columns of inputs[:, k].

    ``inputs`` (batch, K, n); a network with fewer than n inputs ignores the other columns. Takes
    one product of matrices per layer, not K of them. All are `Mlp` with the
    same hidden layers, or `Constant`.
    """
    learned = {k: net for k, net in enumerate(nets) if isinstance(net, Mlp)}
    constant = {k: net for k, net in enumerate(nets) if isinstance(net, Constant)}
    parts = []
    if constant:
        values = torch.stack([net.value for net in constant.values()])
        parts.append(values.expand(len(inputs), -1, -1))
    if learned:
        outputs = _together(list(learned.values()), inputs[:, list(learned)])
        parts.append(outputs.transpose(0, 1))
    place = torch.tensor([*constant, *learned]).argsort()
    return torch.cat(parts, 1)[:, place]


def _together(nets: Sequence[Mlp], inputs: Tensor) -> Tensor:
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

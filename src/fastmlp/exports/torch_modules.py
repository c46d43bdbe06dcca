"""Modules for what torch.nn lacks: `Sequential.to_torch` uses them, `from_torch` reads them.

They are ordinary modules: they train, move to devices, and have a state_dict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """(x - mean) / scale with learned buffers of shape (num_features,)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


class Scale(nn.Module):
    """x · weight + bias, column by column."""

    def __init__(self, num_features: int, bias: bool = False):
        super().__init__()
        self.num_features = num_features
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight
        return y if self.bias is None else y + self.bias


class GaussianNoise(nn.Module):
    """In training, x + N(0, std²)."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * torch.randn_like(x) if self.training else x


class ColumnEmbedding(nn.Module):
    """x without the column of codes, then the rows of weight that they tell."""

    def __init__(self, in_features: int, num_embeddings: int, embedding_dim: int, column: int):
        super().__init__()
        self.in_features = in_features
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.column = column
        self.weight = nn.Parameter(torch.randn(num_embeddings, embedding_dim))

    def forward(self, x: Tensor) -> Tensor:
        column = self.column % x.shape[1]
        vectors = self.weight[x[:, column].round().long()]
        return torch.cat([x[:, :column], x[:, column + 1 :], vectors], dim=1)


class Residual(nn.Module):
    """f(x) + x, or f(x) + projection(x)."""

    def __init__(self, layers: nn.Sequential, projection: nn.Module | None = None):
        super().__init__()
        self.layers = layers
        self.projection = projection

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + (x if self.projection is None else self.projection(x))


class Concat(nn.Module):
    """The outputs of branches that read the same input, side by side."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)

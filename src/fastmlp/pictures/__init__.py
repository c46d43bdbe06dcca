"""Pictures of learning, drawn by matplotlib (imported at the first picture; an extra).

Every function but `training_curves`, which fills a figure of its own, takes ``ax=`` and returns
the axes that it drew on; without one it makes a figure by pyplot, which a notebook shows and
``plt.show()`` opens.
"""

from fastmlp.pictures.curves import curves, training_curves
from fastmlp.pictures.descents import descent, gradient_error
from fastmlp.pictures.graphs import graph
from fastmlp.pictures.landscapes import Path, landscape
from fastmlp.pictures.layers import activations, gradients, updates, weights
from fastmlp.pictures.learning import batch_sizes, gradient_noise, learning_rates, overfitting
from fastmlp.pictures.networks import network
from fastmlp.pictures.results import confusion, decision_boundary, mistakes

__all__ = [
    "Path",
    "activations",
    "batch_sizes",
    "confusion",
    "curves",
    "decision_boundary",
    "descent",
    "gradient_error",
    "gradient_noise",
    "gradients",
    "graph",
    "landscape",
    "learning_rates",
    "mistakes",
    "network",
    "overfitting",
    "training_curves",
    "updates",
    "weights",
]

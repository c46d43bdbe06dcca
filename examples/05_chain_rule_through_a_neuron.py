"""
The chain rule through a neuron
===============================

A sigmoid neuron with two inputs: eight operations, each with a local derivative of its own. Their
products along the way are the gradient.
"""

import matplotlib.pyplot as plt

import fastmlp as fm
from fastmlp import graph


def neuron(w0, x0, w1, x1, b):
    return 1 / (1 + graph.exp(-(w0 * x0 + w1 * x1 + b)))


g = graph.Graph.of(neuron, 2.0, -1.0, -3.0, -2.0, -3.0)
g.trace(digits=3)

# %%
# Seen as one operation, the sigmoid has the local derivative σ(1 − σ): the same number in one step.
z = graph.variable(1.0, "z")
print("σ'(1) =", graph.local_gradients(graph.sigmoid(z))[0])

fm.pictures.graph(g)
print("See: 0.197 = σ(1)·(1 − σ(1)) reaches the sum, and each weight gets it times its input.")
plt.show()

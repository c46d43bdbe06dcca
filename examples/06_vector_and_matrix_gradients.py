"""
Gradients of vectors and matrices
=================================

The gradient of a number with respect to an array has the shape of the array. A function with many
results has a matrix of derivatives, the Jacobian.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm
from fastmlp import graph

W = np.array([[0.1, 0.5], [-0.3, 0.8]])
x = np.array([0.2, 0.4])

# %%
# f = ‖W x‖²: by the rules, ∂f/∂W = 2 (W x) xᵀ and ∂f/∂x = 2 Wᵀ W x.


def f(W, x):
    return graph.sum((W @ x) ** 2)


grad_w, grad_x = fm.grad(f, argnums=(0, 1))(W, x)
print("∂f/∂W =", grad_w.tolist(), " by the rule:", (2 * np.outer(W @ x, x)).tolist())
print("∂f/∂x =", grad_x.tolist(), " by the rule:", (2 * W.T @ W @ x).tolist())

# %%
# The softmax has as many results as inputs. Its Jacobian is diag(p) − p pᵀ.
p = graph.softmax(graph.constant(x)).value
J = fm.jacobian(graph.softmax)(x)
print("largest difference:", np.abs(J - (np.diag(p) - np.outer(p, p))).max())

fm.pictures.graph(graph.Graph.of(f, W, x))
print("See: every orange gradient has the shape of the blue value above it.")
plt.show()

"""
The numerical gradient
======================

Nudge a variable by h and see how f changes: the oldest way to a derivative, and the check of all
others. It is never exact, and it costs a call of f or two for every variable.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm


def f(x):
    return np.sum(np.sin(x) * np.exp(x))


x = np.array([0.5, 1.0, -0.7])
print("central difference", fm.numerical_gradient(f, x))
print("forward difference", fm.numerical_gradient(f, x, method="forward"))
print("chain rule        ", fm.grad(f)(x))

# %%
# How good is it? With a large h the curve bends under it; with a small one, f(x + h) − f(x) is lost
# in the rounding of f. In between lies the best that numbers of 64 bits can do.
fm.pictures.gradient_error(f, x)

print("See: the best central difference is right to about 10 digits, the chain rule to all 16.")
plt.show()

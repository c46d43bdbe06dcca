"""
A computational graph by hand
=============================

f = (x + y) · z as the lecture draws it: values flow to the right, gradients back to the left.
"""

import matplotlib.pyplot as plt

import fastmlp as fm
from fastmlp import graph

x = graph.variable(-2.0, "x")
y = graph.variable(5.0, "y")
z = graph.variable(-4.0, "z")
q = (x + y).named("q")
f = (q * z).named("f")

# %%
# The chain rule, line by line.
g = f.graph()
g.trace()

# %%
# A gradient is a node itself: ∂f/∂x = z, and the derivative of that with respect to z is 1.
f.backward()
print("∂²f/∂x∂z =", graph.gradients(x.gradient, [z])[0].item())

fm.pictures.graph(g)  # g.draw() draws it through Graphviz
print("See: values stand above the nodes, gradients below; a sum passes its gradient on as it is.")
plt.show()

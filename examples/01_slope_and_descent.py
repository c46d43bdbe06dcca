"""
Slope and descent in one variable
=================================

The derivative of f(x) = x⁴ − 3x² + x says which way is down, and gradient descent goes there:
x ← x − λ f'(x), again and again.
"""

import matplotlib.pyplot as plt

import fastmlp as fm


def f(x):
    return x**4 - 3 * x**2 + x


# %%
# The slope comes from the graph that computing f leaves behind; nobody wrote f' down.
slope = fm.grad(f)
for x in (-1.5, 0.0, 1.5):
    print(f"f({x}) = {f(x):7.3f}   f'({x}) = {slope(x):7.3f}")

# %%
# From two starts, the same rule ends in two different valleys.
paths = {
    f"start at {start}": fm.minimize(f, start, fm.SGD(lr=0.03), steps=40) for start in (2.0, -0.1)
}
for name, path in paths.items():
    print(name, path)

fm.pictures.descent(paths, bounds=(-2.1, 2.1)).set_title("x ← x − 0.03 f'(x)")
print("See: steps are long where the curve is steep, and each start ends in its own valley.")
plt.show()

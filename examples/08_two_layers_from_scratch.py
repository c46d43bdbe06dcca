"""
A two-layer network from scratch
================================

Thirty lines of NumPy train a network with one hidden layer. fastmlp does the same: equal losses,
step by step, to the rounding.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, (200, 1))
y = np.sin(x) + rng.normal(0, 0.05, x.shape)
model = fm.MLP([1, 20, 1], activation="tanh", dtype="float64", seed=0)

# %%
# From scratch, starting at the same weights.
W1, b1, W2, b2 = (np.array(model.parameters[name]) for name in model.parameters)
losses = []
for _ in range(300):
    h = np.tanh(x @ W1 + b1)  # forward
    error = h @ W2 + b2 - y
    losses.append(np.mean(error**2))
    dy = 2 * error / len(x)  # backward
    dz = (dy @ W2.T) * (1 - h**2)
    W2 -= 0.1 * h.T @ dy
    b2 -= 0.1 * dy.sum(axis=0)
    W1 -= 0.1 * x.T @ dz
    b1 -= 0.1 * dz.sum(axis=0)

# %%
# The same in one call.
history = model.fit(x, y, loss="mse", optimizer=fm.SGD(lr=0.1), batch_size=None, epochs=300)
difference = np.abs(np.array(history.history["loss"]) / losses - 1).max()
print(f"largest relative difference of 300 losses: {difference:.1e}")

_, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.semilogy(losses, lw=5, alpha=0.3, label="from scratch")
left.semilogy(history.history["loss"], "--", label="fastmlp")
left.set(xlabel="epoch", ylabel="mean squared error", title="the same losses")
left.legend(frameon=False)
grid = np.linspace(-3, 3, 200)[:, None]
right.plot(x, y, "o", ms=3, color="0.7", label="data")
right.plot(grid, model.predict(grid), lw=2, label="network")
right.set(xlabel="x", ylabel="y", title="what it has learned")
right.legend(frameon=False)
print("See: the dashed curve covers the other exactly, and the network follows the sine.")
plt.show()

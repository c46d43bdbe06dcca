"""
A linear layer
==============

y = x W + b on a whole batch, and what comes back: dW = xᵀ dy, db = Σ dy, dx = dy Wᵀ. One layer
trained by squared error is linear regression, and descent finds the least-squares solution.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, (60, 1))
y = 2 * x - 0.5 + rng.normal(0, 0.2, x.shape)

# %%
# Forward and backward by hand, step by step.
model = fm.Sequential([fm.Dense(1)], input_size=1, dtype="float64", seed=3)
y_hat = model.forward(x)
value, dy = fm.losses.MSE()(y_hat, y)
dx = model.backward(dy)
print("dW =", model.gradients["0.weight"], "  xᵀ dy =", x.T @ dy)
print("db =", model.gradients["0.bias"], "  Σ dy =", dy.sum(axis=0))

# %%
# Train it, and keep the weights on the way.
path = fm.pictures.Path()
model.fit(x, y, loss="mse", optimizer=fm.SGD(lr=0.2), batch_size=None, epochs=40, callbacks=[path])
exact = np.linalg.lstsq(np.hstack([x, np.ones_like(x)]), y, rcond=None)[0].ravel()
print("descent", path.points[-1], " least squares", exact)

_, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(x, y, "o", ms=4, color="0.6")
ends = np.array([-1.0, 1.0])
for k in (0, 1, 3, 10, 40):
    w, b = path.points[k]
    left.plot(ends, w * ends + b, label=f"epoch {k}")
left.set(xlabel="x", ylabel="y", title="the line on its way")
left.legend(frameon=False)
fm.pictures.landscape(model, x, y, ax=right, path=path)
print("See: the loss is a bowl, and the line turns and sinks into place as the path runs down it.")
plt.show()

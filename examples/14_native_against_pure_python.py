"""
Native against pure Python
==========================

The same mini-batch step four ways: plain Python, NumPy, fastmlp's definition (the reference
backend), and its compiled engine.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

SIZES, BATCH, STEPS, RATE = (8, 16, 1), 32, 200, 0.05
rng = np.random.default_rng(0)
x = rng.normal(size=(BATCH * STEPS, SIZES[0])).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))


def make():
    return fm.MLP(SIZES, activation="tanh", seed=0)


# %%
# Loops over samples, units and weights, as a first program would have them.
def plain_python(model):
    from math import tanh

    W1, b1, W2, b2 = (model.parameters[name].tolist() for name in model.parameters)
    W2, hidden = [w[0] for w in W2], range(SIZES[1])
    for start in range(0, len(x), BATCH):
        dW1 = [[0.0] * SIZES[1] for _ in range(SIZES[0])]
        db1, dW2, db2 = [0.0] * SIZES[1], [0.0] * SIZES[1], 0.0
        rows = slice(start, start + BATCH)
        for xs, (target,) in zip(x[rows].tolist(), y[rows].tolist(), strict=True):
            h = [tanh(b1[j] + sum(v * W1[i][j] for i, v in enumerate(xs))) for j in hidden]
            dy = 2 * (b2[0] + sum(h[j] * W2[j] for j in hidden) - target) / BATCH
            db2 += dy
            for j in hidden:
                dz = dy * W2[j] * (1 - h[j] ** 2)
                dW2[j] += dy * h[j]
                db1[j] += dz
                for i, v in enumerate(xs):
                    dW1[i][j] += dz * v
        for j in hidden:
            b1[j] -= RATE * db1[j]
            W2[j] -= RATE * dW2[j]
            for i in range(SIZES[0]):
                W1[i][j] -= RATE * dW1[i][j]
        b2[0] -= RATE * db2
    return np.array(W1)


def numpy_loop(model):
    W1, b1, W2, b2 = (model.parameters[name].copy() for name in model.parameters)
    for start in range(0, len(x), BATCH):
        xb, yb = x[start : start + BATCH], y[start : start + BATCH]
        h = np.tanh(xb @ W1 + b1)
        dy = (2 / BATCH) * (h @ W2 + b2 - yb)
        dz = (dy @ W2.T) * (1 - h * h)
        W2 -= RATE * (h.T @ dy)
        b2 -= RATE * dy.sum(axis=0)
        W1 -= RATE * (xb.T @ dz)
        b1 -= RATE * dz.sum(axis=0)
    return W1


def fastmlp_fit(backend):
    def run(model):
        model.fit(
            x, y, optimizer=fm.SGD(lr=RATE), batch_size=BATCH, epochs=EPOCHS[backend],
            shuffle=False, backend=backend, progress=False,
        )  # fmt: skip
        return model.parameters["0.weight"].copy()

    return run


# %%
# One epoch each gives the same weights.
EPOCHS = {"native": 1, "reference": 1}
ways = {
    "plain Python": plain_python,
    "NumPy": numpy_loop,
    "fastmlp, reference": fastmlp_fit("reference"),
    "fastmlp, native": fastmlp_fit("native"),
}
results = {name: way(make()) for name, way in ways.items()}
for name, W in results.items():
    print(f"{name:20} differs by {np.abs(W - results['NumPy']).max():.1e}")

# %%
# Now the time of a step, the best of three runs.
EPOCHS["native"] = 30
times = {}
for name, way in ways.items():
    best = np.inf
    for _ in range(3):
        model = make()
        start = time.perf_counter()
        way(model)
        best = min(best, time.perf_counter() - start)
    steps = STEPS * (EPOCHS["native"] if "native" in name else 1)
    times[name] = best / steps * 1e6

_, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
bars = ax.barh(list(times), list(times.values()), color=["0.6", "0.6", "#56B4E9", "#0072B2"])
ax.bar_label(bars, [f" {t:,.1f} µs" for t in times.values()])
ax.set_xscale("log")
ax.set(xlabel="time of one mini-batch step (µs)", title="8-16-1, tanh, batch of 32, SGD")
ax.invert_yaxis()
ax.margins(x=0.2)
ratio = times["plain Python"] / times["fastmlp, native"]
print(f"See: the compiled step is {ratio:,.0f} times as fast as loops in Python.")
plt.show()

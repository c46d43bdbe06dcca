"""
The learning rate
=================

One number decides whether descent creeps, arrives, leaps to and fro, or flies away.
"""

import matplotlib.pyplot as plt

import fastmlp as fm


def f(x):
    return x**2


# %%
# On x², each step multiplies x by 1 − 2λ: below 1/2 it approaches from one side, up to 1 from both,
# and beyond 1 every step leads further away.
rates = {"0.03: small": 0.03, "0.4: good": 0.4, "0.9: large": 0.9, "1.05: too large": 1.05}
_, panels = plt.subplots(2, 2, figsize=(8, 6), layout="constrained", sharex=True, sharey=True)
for (name, rate), ax in zip(rates.items(), panels.flat, strict=True):
    path = fm.minimize(f, 2.0, fm.SGD(lr=rate), steps=12)
    fm.pictures.descent(path, ax=ax, bounds=(-4, 4))
    ax.set_ylim(-0.5, 16)
    ax.set_title(f"λ = {name}; after 12 steps f = {path.value[-1]:.2g}")

# %%
# The same regimes in a network that learns to read digits: look at the loss of each epoch.
x, y = fm.data.load_digits()
model = fm.MLP([64, 30, 10], activation="sigmoid", output_activation="sigmoid", seed=0)
rates = {"very small": 0.01, "small": 0.3, "good": 3.0, "very large": 100.0}
fm.pictures.learning_rates(model, x, y, rates, loss="quadratic", epochs=20)

print("See: too small is slow, a bit larger is fast, and too large never learns at all.")
plt.show()

"""
Finding a learning rate
=======================

Raise the learning rate a little with every mini-batch and watch the loss: it falls, is at its best,
and blows up. A third to a tenth of the rate where it turns is a good choice.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

x, y = fm.data.load_digits()
rng = np.random.default_rng(0)

# %%
# The test itself: 120 mini-batches, learning rates from 1e-4 to 10.
rates = np.geomspace(1e-4, 10, 120)
model = fm.MLP([64, 30, 10], activation="relu", output_activation="softmax", seed=0)
optimizer = fm.SGD(lr=rates[0], momentum=0.9)
trainer = fm.Trainer(model, loss="cross_entropy", optimizer=optimizer, batch_size=64)
losses = []
for rate in rates:
    optimizer.lr = rate
    rows = rng.choice(len(x), 64, replace=False)
    try:
        losses.append(trainer.step(x[rows], y[rows]))
    except fm.DivergenceError:
        break
    if losses[-1] > 4 * min(losses):
        break
rates = rates[: len(losses)]
smooth = np.convolve(np.pad(losses, 4, mode="edge"), np.ones(9) / 9, mode="valid")
best = rates[smooth.argmin()]
suggestion = float(f"{best / 5:.1g}")
print(f"least loss at {best:.2g}, so try {suggestion}")

# %%
# Does the suggestion hold? Train at it, and at rates far below and above.
_, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
left.semilogx(rates, losses, color="0.7", lw=1, label="each mini-batch")
left.semilogx(rates, smooth, lw=2, label="smoothed")
left.axvline(suggestion, color="#D55E00", ls="--", label=f"suggestion {suggestion}")
left.set(xlabel="learning rate", ylabel="loss of the mini-batch", title="range test")
left.legend(frameon=False)
model = fm.MLP([64, 30, 10], activation="relu", output_activation="softmax", seed=0)
fm.pictures.learning_rates(
    model, x, y, [suggestion / 30, suggestion, 30 * suggestion], ax=right, loss="cross_entropy",
    epochs=15, batch_size=64, optimizer=lambda rate: fm.SGD(lr=rate, momentum=0.9),
)  # fmt: skip
right.set_title("trained at three rates")
print("See: the loss turns where the rate gets too large; somewhat below is the best place.")
plt.show()

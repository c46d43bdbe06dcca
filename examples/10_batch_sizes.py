"""
Full batch, mini-batches, single samples
========================================

The gradient of a mini-batch is that of all data plus noise, which falls as 1/√(batch size). Many
noisy steps beat few exact ones.
"""

import matplotlib.pyplot as plt

import fastmlp as fm

x, y = fm.data.load_digits()
model = fm.MLP([64, 30, 10], activation="relu", seed=0)

# %%
# The same network, the same learning rate: the loss against passes over the data, updates and time.
_, panels = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained", sharey=True)
for against, ax in zip(("epochs", "updates", "seconds"), panels, strict=True):
    fm.pictures.batch_sizes(model, x, y, [None, 256, 32, 1], ax=ax, against=against, lr=0.05)
    if against != "updates":
        ax.get_legend().remove()  # one is enough, where there is room

# %%
# How noisy are the gradients?
fm.pictures.gradient_noise(model, x[:1000], y[:1000])
print("See: after the same number of epochs, small batches are far ahead; each update of a full")
print("batch is the better one, but there are too few of them.")
plt.show()

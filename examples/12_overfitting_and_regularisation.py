"""
Overfitting and regularisation
==============================

250 digits, 40 of them with a label drawn at random. A large network learns even those by heart,
and pays for it on digits that it has not seen. A penalty on the weights, dropout, or stopping in
time, keeps it from that.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

images, labels = fm.data.load_digits()
rng = np.random.default_rng(0)
rows = rng.permutation(len(images))
x, y = images[rows[:250]], labels[rows[:250]].copy()
y[rng.choice(250, 40, replace=False)] = rng.integers(0, 10, 40)
unseen = images[rows[250:]], labels[rows[250:]]


def train(dropout=0.0, **settings):
    layers = [fm.Dense(100, "relu"), fm.Dropout(dropout), fm.Dense(10, "softmax")]
    model = fm.Sequential(layers, input_size=64, seed=0)
    return model.fit(
        x, y, loss="cross_entropy", optimizer=fm.Adam(lr=3e-3), batch_size=25, epochs=80, seed=0,
        validation_data=unseen, metrics=["accuracy"], **settings,
    )  # fmt: skip


# %%
# The same network five times. Early stopping waits ten epochs for a better validation loss.
stopping = fm.callbacks.EarlyStopping(patience=10, restore_best_weights=True)
histories = {
    "plain": train(),
    "l2 = 0.003": train(l2=0.003),
    "l2 = 0.01": train(l2=0.01),
    "dropout": train(dropout=0.6),
    "early stopping": train(callbacks=[stopping]),
}
for name, history in histories.items():
    accuracy = history.history["val_accuracy"]
    print(f"{name:15} {len(accuracy):3} epochs, accuracy on unseen digits {accuracy[-1]:.3f}")

_, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
fm.pictures.overfitting(histories, ax=left)
fm.pictures.overfitting(histories, ax=right, metric="accuracy")
print("See: without a remedy the training loss keeps falling while the validation loss rises.")
plt.show()

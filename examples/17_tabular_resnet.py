"""
A residual network for tables
=============================

A table of numbers and categories: the price of a flat by its size, its age, its district and its
kind of heating. The districts have prices of their own, which nothing but their code tells. An
Embedding learns a vector for each of them; blocks with a way around them then make a deep network
that trains as easily as a flat one (Y. Gorishniy et al., Revisiting deep learning models for
tabular data, 2021).
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

rng = np.random.default_rng(0)
n, districts, heatings = 3000, 40, 4
district, heating = rng.integers(0, districts, n), rng.integers(0, heatings, n)
size, age = rng.normal(size=n), rng.normal(size=n)
level, slope = rng.normal(size=districts), rng.normal(size=districts)
price = level[district] + slope[district] * size + np.sin(2 * age) * (heating - 1.5)
price += rng.normal(0, 0.1, n)
x = np.column_stack([size, age, district, heating])
train, unseen = slice(0, 2000), slice(2000, None)

# %%
# The codes stand in columns 2 and 3. An Embedding takes its column out and appends the vector, so
# the second one finds its codes in column 2 as well.


def codes():
    return [fm.Embedding(districts, 4, column=2), fm.Embedding(heatings, 2, column=2)]


def block():
    inside = [fm.BatchNorm(), fm.Dense(64, "relu"), fm.Dropout(0.05), fm.Dense(32)]
    return fm.Residual(inside)


models = {
    "codes as numbers": [fm.Standardize(), fm.Dense(64, "relu"), fm.Dense(64, "relu"), fm.Dense(1)],
    "embedded codes": [*codes(), fm.Dense(64, "relu"), fm.Dense(64, "relu"), fm.Dense(1)],
    "residual network": [
        *codes(), fm.Dense(32), block(), block(), block(), fm.BatchNorm(), fm.Dense(32, "relu"),
        fm.Dense(1),
    ],
}  # fmt: skip
histories = {}
for name, layers in models.items():
    model = fm.Sequential(layers, input_size=4, seed=0)
    histories[name] = model.fit(
        x[train], price[train], optimizer=fm.AdamW(lr=3e-3, weight_decay=1e-3), batch_size=100,
        epochs=40, validation_data=(x[unseen], price[unseen]), seed=0,
    )  # fmt: skip
    error = histories[name].history["val_loss"][-1]
    print(f"{name:17} {model.parameter_count:6} parameters, squared error {error:.3f}")
model.summary()

# %%
# What the network has found out of the districts: the vectors of those with similar prices are
# close to each other. The first two principal components, coloured by the true level.
vectors = model.parameters["0.weight"] - model.parameters["0.weight"].mean(axis=0)
plane = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:2].T

_, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
fm.pictures.overfitting(histories, ax=left)
left.set_yscale("log")
points = right.scatter(*plane.T, c=level, cmap="viridis")
right.set(title="learned vectors of the districts", xlabel="first component", ylabel="second")
plt.colorbar(points, ax=right, label="level of the district's prices")
print("See: read as numbers the codes say little; what they mean is learned with the vectors.")
plt.show()

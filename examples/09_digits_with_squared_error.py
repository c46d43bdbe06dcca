"""
Reading digits with squared error
=================================

The classic first network: 64 pixels, 30 sigmoid units, 10 outputs, quadratic cost, plain stochastic
gradient descent. Then look at what it does, and where it fails.
"""

import matplotlib.pyplot as plt

import fastmlp as fm

x, y = fm.data.load_digits()
x, x_test, y, y_test = fm.data.train_test_split(x, y, test_size=0.25, seed=0)

model = fm.MLP([64, 30, 10], activation="sigmoid", output_activation="sigmoid", seed=0)
model.fit(
    x, y, loss="quadratic", optimizer=fm.SGD(lr=3.0), batch_size=10, epochs=30, seed=0,
    metrics=["accuracy"], validation_data=(x_test, y_test),
)  # fmt: skip
result = model.evaluate(x_test, y_test, loss="quadratic", metrics=["accuracy"])
print(f"test accuracy {result['accuracy']:.3f}")

# %%
# The weights of the hidden units, as images: strokes that speak for or against each unit.
fm.pictures.weights(model, (8, 8))

# %%
# What it takes for what, and its worst mistakes.
_, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
fm.pictures.confusion(model, x_test, y_test, ax=left)
fm.pictures.mistakes(model, x_test, y_test, (8, 8), ax=right)
print("See: the mistakes are digits that people hesitate over, too.")
plt.show()

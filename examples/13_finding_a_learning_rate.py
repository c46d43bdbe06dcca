"""
Finding a learning rate
=======================

Raise the learning rate a little with every mini-batch and watch the loss: it falls, is at its best,
and blows up. A tenth of the rate where it is least is a good choice.
"""

import matplotlib.pyplot as plt

import fastmlp as fm

x, y = fm.data.load_digits()
model = fm.MLP([64, 30, 10], activation="relu", output_activation="softmax", seed=0)

# %%
# The test itself: 200 mini-batches on a copy of the model, learning rates from 1e-4 to 10.
optimizer = fm.SGD(momentum=0.9)
test = fm.find_learning_rate(
    model, x, y, loss="cross_entropy", optimizer=optimizer, batch_size=64, lowest=1e-4, highest=10
)
print(test)

# %%
# Does the suggestion hold? Train at it, and at rates far below and above.
_, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
test.plot(left).set_title("range test")
fm.pictures.learning_rates(
    model, x, y, [test.suggestion / 30, test.suggestion, 30 * test.suggestion], ax=right,
    loss="cross_entropy", epochs=15, batch_size=64,
    optimizer=lambda rate: fm.SGD(lr=rate, momentum=0.9),
)  # fmt: skip
right.set_title("trained at three rates")
print("See: the loss turns where the rate gets too large; somewhat below is the best place.")
plt.show()

"""
Scikit-learn with one import changed
====================================

``fm.MLPClassifier`` draws the same weights and the same order of samples as scikit-learn's, and
follows the same rules. So both learn along the same curve, and one of them arrives sooner.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

import fastmlp as fm

x, y = fm.data.load_digits()
x = x.astype("float64")
x, x_test, y, y_test = fm.data.train_test_split(x, y, test_size=0.2, seed=0)

# %%
# The same settings, the same ``random_state``, two packages.
warnings.simplefilter("ignore", ConvergenceWarning)
curves, times = {}, {}
for name, package in {"scikit-learn": neural_network, "fastmlp": fm}.items():
    model = package.MLPClassifier((100,), max_iter=25, random_state=0)
    start = time.perf_counter()
    model.fit(x, y)
    seconds = time.perf_counter() - start
    curves[name] = np.array(model.loss_curve_)
    times[name] = np.linspace(0, seconds, len(model.loss_curve_) + 1)[1:]
    print(f"{name}: {seconds:.2f} s, test accuracy {model.score(x_test, y_test):.3f}")
apart = np.abs(curves["fastmlp"] / curves["scikit-learn"] - 1).max()
print(f"the losses differ by {apart:.1e} at most")

# %%
# Over epochs the curves cover each other; over time they do not.
_, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
for name, width in {"scikit-learn": 6, "fastmlp": 2}.items():
    left.semilogy(curves[name], lw=width, label=name)
    right.semilogy(times[name], curves[name], lw=width, label=name)
left.set(xlabel="epoch", ylabel="loss", title="the same numbers")
right.set(xlabel="seconds", title="at another speed")
left.legend(frameon=False)
print("See: over epochs both curves are one; over seconds fastmlp is done first.")
plt.show()

"""
Saddle points and ravines
=========================

Where the slope is zero there need not be a valley. Momentum and Adam leave saddles and follow
ravines sooner than plain descent.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm
from fastmlp.descent import RAVINE, ROSENBROCK, SADDLE

optimizers = {
    "SGD": (fm.SGD(lr=0.02), fm.SGD(lr=0.02), fm.SGD(lr=0.001)),
    "momentum": (
        fm.SGD(lr=0.02, momentum=0.9),
        fm.SGD(lr=0.02, momentum=0.9),
        fm.SGD(lr=0.001, momentum=0.9),
    ),
    "Adam": (fm.Adam(lr=0.05), fm.Adam(lr=0.1), fm.Adam(lr=0.05)),
}

# %%
# Curvatures tell a saddle: the Hessian has eigenvalues of both signs.
for f in (SADDLE, RAVINE, ROSENBROCK):
    hessian = fm.jacobian(fm.grad(f))(np.zeros(2))
    print(f"{f.name}: curvatures at the origin {np.linalg.eigvalsh(hessian)}")

# %%
_, panels = plt.subplots(1, 3, figsize=(16, 4.8), layout="constrained")
for k, (f, ax) in enumerate(zip((SADDLE, RAVINE, ROSENBROCK), panels, strict=True)):
    paths = {
        name: fm.minimize(f, f.start, rules[k], steps=(75, 60, 600)[k])
        for name, rules in optimizers.items()
    }
    fm.pictures.descent(paths, ax=ax)
    ax.set_title(f"{f.name}: {f.formula}")
print("See: plain descent waits at the saddle and creeps along the ravines; momentum carries on.")
plt.show()

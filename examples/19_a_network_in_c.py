"""
A network in C
==============

A trained network leaves Python: as one C file that any program can call, with weights of 32 or of
8 bits, and as a PyTorch model that comes back.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fastmlp as fm

x, y = fm.data.load_digits()
x_train, x_test, y_train, y_test = fm.data.train_test_split(x, y, test_size=0.3, seed=0)
model = fm.MLP([64, 32, 10], activation="relu", output_activation="softmax", seed=0)
model.fit(
    x_train, y_train, loss="cross_entropy", optimizer=fm.Adam(lr=3e-3), epochs=40, progress=False
)
expected = model.predict(x_test)
print(f"test accuracy {np.mean(expected.argmax(axis=1) == y_test):.3f}")

# %%
# One line writes the file. With ``int8=True`` the weights are integers, and what that costs is
# measured on the data it is given.
folder = tempfile.TemporaryDirectory()
full = model.export_c(Path(folder.name, "full.c"))
small = model.export_c(Path(folder.name, "small.c"), int8=True, x=x_test)
print(full, small, sep="\n")

# %%
# A program of ten lines reads images and writes probabilities.
PROGRAM = """\
#include <stdio.h>
void NAME(const float *x, float *y);
int main(void)
{
    float x[64], y[10];
    for (int i = 0; scanf("%f", &x[i % 64]) == 1; i++)
        if (i % 64 == 63) {
            NAME(x, y);
            for (int j = 0; j < 10; j++) printf("%.9g ", y[j]);
        }
}
"""
compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def run(export):
    """Compile the program with an exported file, and give it the test images."""
    main = export.path.with_name(f"main_{export.path.name}")
    main.write_text(PROGRAM.replace("NAME", export.function))
    program = export.path.with_suffix(".exe")
    subprocess.run([compiler, "-O2", main, export.path, "-o", program, "-lm"], check=True)
    images = " ".join(map(str, x_test.ravel()))
    printed = subprocess.run([program], input=images, capture_output=True, text=True, check=True)
    return np.array(printed.stdout.split(), np.float32).reshape(-1, 10)


if compiler:
    results = {"float": run(full), "int8": run(small)}
    for name, result in results.items():
        same = np.mean(result.argmax(axis=1) == expected.argmax(axis=1))
        far = np.abs(result - expected).max()
        print(f"{name:5} differs by at most {far:.1e}, same answer in {same:.1%}")
else:
    print("no C compiler here: the picture shows the model itself")
    results = {"model": expected}

# %%
# And to PyTorch and back, if it is installed.
try:
    module = model.to_torch()
except ImportError as error:
    print(error)
else:
    back = fm.from_torch(module)
    print(module, f"back again: {np.abs(back.predict(x_test) - expected).max():.1e}", sep="\n")

# %%
_, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
for (name, result), colour in zip(results.items(), ("#0072B2", "#D55E00"), strict=False):
    ratio = (result / expected).ravel()
    ax.semilogx(expected.ravel(), ratio, ".", ms=3, color=colour, label=name, zorder=-ord(name[0]))
ax.set(xlabel="probability in Python", ylabel="probability in C / in Python")
ax.set(xlim=(1e-6, 1.2), ylim=(0.5, 1.5), title="10 probabilities for each of the test images")
ax.legend()
print(
    f"See: in C the network is the same to a rounding; weights of 8 bits take "
    f"{small.weight_bytes:,} bytes instead of {full.weight_bytes:,}, and blur small probabilities."
)
plt.show()
folder.cleanup()

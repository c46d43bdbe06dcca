"""A small training that is killed at random moments and resumed: a worker, and a check of many.

    python tests/interrupted.py KILLS [SEED]

runs trainings, kills each once or more with SIGKILL, resumes it, and compares the SHA-256 of
parameters, optimizer state and history with that of a training that was never stopped.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS = 8
# The worker says so when the training begins, so that kills are spread over it alone.
READY = "training"


def train(path: str | None, epochs: int = EPOCHS) -> str:
    """Train, with checkpoints as often as can be, and return the digest of the result."""
    import fastmlp as fm
    from fastmlp import callbacks

    rng = np.random.default_rng(5)
    x = rng.normal(size=(1500, 12))
    y = rng.integers(0, 4, 1500)
    schedule = fm.schedules.Warmup(fm.schedules.Exponential(0.01, 0.999), 50)
    model = fm.Sequential(
        [fm.Standardize(), fm.Dense(24, "relu"), fm.Dense(4, "softmax")], 12, seed=3
    )
    optimizer = fm.Adam(lr=schedule)
    stopping = callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    trainer = fm.Trainer(model, "cross_entropy", optimizer, 8, threads=1)
    print(READY, flush=True)
    history = trainer.fit(
        x,
        y,
        epochs=epochs,
        validation_split=0.2,
        metrics=["accuracy"],
        callbacks=[stopping, Slow()],
        checkpoint=path,
        checkpoint_every=0.0,
        resume=path is not None,
    )
    return digest(trainer, history)


def digest(trainer, history) -> str:
    """Return the SHA-256 of parameters, states, optimizer state and history."""
    state = trainer.optimizer.state_for(trainer.model)
    result = hashlib.sha256()
    for vector in (trainer.model.flat_parameters, trainer.model.flat_states):
        result.update(vector.array().tobytes())
    for name, vector in state.vectors().items():
        result.update(name.encode() + vector.array().tobytes())
    result.update(repr((state.step, state.epoch, history.epoch)).encode())
    for name, values in history.history.items():
        result.update(name.encode() + np.array(values).tobytes())
    return result.hexdigest()


def Slow():  # noqa: N802 - made where fastmlp is imported, so that importing this file is cheap
    """Return a callback of single mini-batches, so that there are many moments to be killed at."""
    from fastmlp.callbacks import Callback

    class Slow(Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    return Slow()


def run_killed(path: Path, moments: list[float], epochs: int = EPOCHS) -> tuple[str, int]:
    """Run the worker, killed after each of these seconds, then to its end.

    Returns its digest, and how many times it really was killed.
    """
    for killed, seconds in enumerate([*moments, None]):
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(path), str(epochs)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        assert worker.stdout.readline().strip() == READY
        if seconds is not None:
            time.sleep(seconds)
            worker.kill()
        out, _ = worker.communicate()
        if worker.returncode == 0:
            return out.strip(), killed
        assert seconds is not None, f"the worker failed with {worker.returncode}"
    raise AssertionError("unreachable")


def main(kills: int, seed: int) -> None:
    rng = random.Random(seed)
    start = time.perf_counter()
    expected = train(None)
    done = 0
    while done < kills:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.ckpt"
            moments = [rng.uniform(0.0, 1.2) for _ in range(rng.randint(1, 4))]
            found, killed = run_killed(path, moments)
            remains = [name for name in os.listdir(folder) if name != path.name]
            assert found == expected, f"{found} after kills at {moments}, expected {expected}"
            assert not remains, remains
        done += killed
        print(f"{done} kills: the same", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        print(train(sys.argv[2], int(sys.argv[3])))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)

"""
Searching with Optuna
=====================

Optuna (https://optuna.org) proposes hyper-parameters, sees what came out, and proposes better ones.
Here it chooses width, learning rate and weight decay; trials that lag behind are ended early.
"""

import matplotlib.pyplot as plt

import fastmlp as fm

try:
    import optuna
except ImportError:
    raise SystemExit("this example needs Optuna: pip install 'fastmlp[optuna]'") from None

x, y = fm.data.load_digits()
x, x_test, y, y_test = fm.data.train_test_split(x, y, test_size=0.25, seed=0)


# %%
# After each epoch a trial tells how it stands, and is asked whether it is worth going on.
class Report(fm.callbacks.Callback):
    def __init__(self, trial):
        self.trial = trial

    def on_epoch_end(self, epoch, logs=None):
        self.trial.report(logs["val_loss"], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def objective(trial):
    width = trial.suggest_int("width", 8, 96, log=True)
    optimizer = fm.AdamW(
        lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
    )
    model = fm.MLP([64, width, 10], output_activation="softmax", seed=0)
    history = model.fit(
        x, y, loss="cross_entropy", optimizer=optimizer, epochs=15,
        validation_data=(x_test, y_test), callbacks=[Report(trial)],
    )  # fmt: skip
    return history.history["val_loss"][-1]


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    sampler=optuna.samplers.TPESampler(seed=0), pruner=optuna.pruners.MedianPruner(n_warmup_steps=3)
)
study.optimize(objective, n_trials=25)
pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
print(f"best loss {study.best_value:.3f} with {study.best_params}, {pruned} trials ended early")

# %%
# Every trial is a line; those that were ended early break off.
_, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
for trial in study.trials:
    best = trial.number == study.best_trial.number
    losses = list(trial.intermediate_values.values())
    ax.semilogy(losses, color="#D55E00" if best else "0.7", lw=2.5 if best else 1, zorder=2 + best)
ax.set(xlabel="epoch", ylabel="validation loss", title="25 trials, the best one coloured")
print("See: most trials end early; the time goes to those that promise something.")
plt.show()

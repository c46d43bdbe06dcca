"""What every optimizer has: checked settings, parameter groups, hyper rows, and a state per model.

An update is split in two. `hyper` computes, in double precision and for a whole span of steps, one
row of scalars per step: learning rate, bias corrections, decays. `update` is an element-wise
formula that uses nothing but such a row. Backends get the same rows, so schedules, parameter groups
and bias corrections cost them nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, check_integer, check_number, choose, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from fastmlp.backends import BaseExecutor
    from fastmlp.loss_base import Loss
    from fastmlp.parameters import FlatVector
    from fastmlp.schedules import Schedule

    Floats = NDArray[np.floating]
    Group = tuple[str, Mapping[str, Any]]
    # Of `_columns`: numbers of the steps, their learning rates, settings of a group; the result.
    Steps = NDArray[np.int64]
    Rates = float | NDArray[np.float64]
    Values = Mapping[str, Any]
    Columns = Sequence[float | NDArray[np.float64]]
    # Of `update`: state vectors, and one row of `hyper`.
    Slots = Sequence[Floats]
    Row = NDArray[np.float64]


# Steps whose powers are computed together, and those whose rows of scalars are, which takes as long
# for many as for few.
_BLOCK = 256
_KEPT = 1024

# Far more and longer than anyone writes; a file may hold groups of an enemy's, and a pattern of a
# hundred thousand characters takes minutes to match.
_MOST_GROUPS = 1000
_LONGEST_PATTERN = 200

# --- checks of settings: (what the message calls it, value) -> value ------------------------------


def rate(argument: str, value: Any) -> float | Schedule:
    """Check a learning rate: a number >= 0, a schedule, or the config of a schedule."""
    if hasattr(value, "rates"):
        return value
    if hasattr(value, "keys"):
        from fastmlp.schedules import from_config

        return from_config(value)
    return check_number(f"{argument} (or a schedule)", value, low=0.0)


def not_negative(argument: str, value: Any) -> float:
    """Check a number >= 0."""
    return check_number(argument, value, low=0.0)


def positive(argument: str, value: Any) -> float:
    """Check a number > 0."""
    return check_number(argument, value, low=0.0, open_low=True)


def fraction(argument: str, value: Any) -> float:
    """Check a number from 0 to 1, both included."""
    return check_number(argument, value, low=0.0, high=1.0)


def forgetting(argument: str, value: Any) -> float:
    """Check the decay rate of a running mean: a number >= 0 and < 1."""
    return check_number(argument, value, low=0.0, high=1.0, open_high=True)


def pair(
    low: Callable[[str, Any], float], high: Callable[[str, Any], float]
) -> Callable[[str, Any], tuple[float, float]]:
    """Return a check of two numbers, each with a check of its own."""

    def check(argument: str, value: Any) -> tuple[float, float]:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise TypeError(f"{argument} must be a pair of numbers; got {shown(value)}")
        return low(f"{argument}[0]", value[0]), high(f"{argument}[1]", value[1])

    return check


betas = pair(forgetting, forgetting)
flag = check_flag


class Setting:
    """A checked attribute of an optimizer; setting it moves the optimizer's `version`.

    Parameters
    ----------
    check : callable
        (what the message calls it, value) -> the value in the type that is kept.
    per_group : bool
        Whether a parameter group may override it. False where it decides which slots there are.
    """

    def __init__(self, check: Callable[[str, Any], Any], per_group: bool = True):
        self.check = check
        self.per_group = per_group

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type | None = None) -> Any:
        return self if optimizer is None else optimizer._values[self.name]

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        optimizer._change({**optimizer._values, self.name: value}, optimizer._groups)


def limit_columns(weight: Floats, limit: float) -> None:
    """Scale the columns of a matrix that are longer than `limit` down to it, in place."""
    norms = np.sqrt((weight * weight).sum(axis=0, keepdims=True))
    with np.errstate(divide="ignore"):
        weight *= np.where(norms > limit, weight.dtype.type(limit) / norms, weight.dtype.type(1))


class OptimizerState:
    """What an optimizer keeps about one model.

    Attributes
    ----------
    step : int
        Updates made so far.
    epoch : int
        Epochs finished so far.
    names : tuple of str
        Names of the slots.
    slots : list of FlatVector
        The slots, each as long as the parameters and of their dtype. All start as zeros.
    average : FlatVector or None
        Moving average of the parameters, where there is one.
    averaged_from : int
        Updates that were made before it was begun.
    """

    __slots__ = ("average", "averaged_from", "epoch", "names", "slots", "step")

    def __init__(self, names: Sequence[str], length: int, dtype: np.dtype | str):
        from fastmlp.parameters import FlatVector

        self.step = 0
        self.epoch = 0
        self.names = tuple(names)
        self.slots: list[FlatVector] = [FlatVector(length, dtype) for _ in names]
        self.average: FlatVector | None = None
        self.averaged_from = 0

    def vectors(self) -> dict[str, FlatVector]:
        """Return all vectors that training changes, by name: what a checkpoint has to hold."""
        vectors = dict(zip(self.names, self.slots, strict=True))
        return vectors if self.average is None else {**vectors, "average": self.average}

    def counts(self) -> dict[str, int]:
        """Return all numbers that training changes, by name."""
        return {"step": self.step, "epoch": self.epoch, "averaged_from": self.averaged_from}

    def take_counts(self, counts: Mapping[str, int]) -> None:
        """Go on from what `counts` returned."""
        for name, number in counts.items():
            setattr(self, name, number)

    def begin_average(self, model: Any) -> None:
        """See to it that there is a moving average; a new one begins with the next update."""
        if self.average is None:
            parameters = model.flat_parameters
            self.average = type(parameters)(len(parameters), parameters.dtype)
            # Frozen parameters, which no update touches, are their own average; the others are
            # taken over as a whole by the first update.
            average = self.average.array()
            average[...] = parameters.array()
            for part in model.trainable_slices():
                average[part] = 0
            self.averaged_from = self.step

    @property
    def averaged(self) -> bool:
        """Whether there is a moving average of at least one update."""
        return self.average is not None and self.step > self.averaged_from


class Optimizer:
    """Base of the optimizers.

    State belongs to the pair (optimizer object, model): training a model again with the same object
    goes on where it stopped. Copies and unpickled optimizers start fresh.

    Attributes
    ----------
    name : str
        Name in `OPTIMIZERS`.
    settings : tuple of str
        Attributes that are also arguments of the constructor. Each may be set at any time.
    hyper_names : tuple of str
        What the columns of `hyper` are.
    full_batch : bool
        Whether each step needs all samples; see `fastmlp.second_order`.
    version : int
        Grows with every change of a setting, so that whoever cached something can tell.
    """

    name: str = ""
    settings: tuple[str, ...] = ()
    hyper_names: tuple[str, ...] = ()
    full_batch: bool = False

    def __init_subclass__(cls) -> None:
        own = tuple(name for name, item in vars(cls).items() if isinstance(item, Setting))
        cls.settings = own or cls.settings

    def __init__(self, groups: Iterable[Group] = (), **settings: Any):
        import weakref

        self.version = 0
        self._states: weakref.WeakKeyDictionary[Any, OptimizerState] = weakref.WeakKeyDictionary()
        self._change(settings, groups)

    # --- settings and groups ---

    @property
    def learning_rate(self) -> Any:
        """Keras' name of `lr`, refused, for an attribute that nobody reads would change nothing."""
        raise AttributeError(f"{type(self).__name__} has no learning_rate: it is called lr")

    @learning_rate.setter
    def learning_rate(self, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} has no learning_rate: it is called lr")

    def _change(self, values: Mapping[str, Any], groups: Iterable[Group]) -> None:
        values = {name: self._check(name, value) for name, value in values.items()}
        self._agree(values)
        checked = self._check_groups(groups)
        for _, overrides in checked:
            self._agree({**values, **overrides})
        self._values, self._groups = values, checked
        self._blocks: dict[tuple[int, int], NDArray[np.float64]] = {}
        self.version += 1

    def take_settings(self, other: Optimizer) -> None:
        """Take over settings and groups of another optimizer of the same class."""
        self._change(other._values, other._groups)

    def _check(self, name: str, value: Any) -> Any:
        return getattr(type(self), name).check(f"{name} of {self.name}", value)

    def _agree(self, values: Values) -> None:
        """Raise ValueError if settings contradict each other."""

    def _check_groups(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        allowed = [name for name in self.settings if getattr(type(self), name).per_group]
        checked = []
        if isinstance(groups, str) or not hasattr(groups, "__iter__"):
            raise TypeError(f"groups must be a list of (pattern, overrides); got {shown(groups)}")
        for group in groups:
            if len(checked) == _MOST_GROUPS:
                raise ValueError(f"groups must be at most {_MOST_GROUPS}; got more")
            fits = isinstance(group, (tuple, list)) and len(group) == 2
            if not fits or not isinstance(group[0], str) or not hasattr(group[1], "items"):
                raise TypeError(
                    "a group must be (pattern of parameter names, dict of overrides), such as "
                    f"('*.bias', {{'weight_decay': 0.0}}); got {shown(group)}"
                )
            pattern, overrides = group
            if len(pattern) > _LONGEST_PATTERN:
                raise ValueError(
                    f"the pattern of a group may have {_LONGEST_PATTERN} characters; "
                    f"{shown(pattern)} has {len(pattern):,}"
                )
            values = {}
            for name, value in overrides.items():
                choose(f"override of group {pattern!r}", name, ["lr_scale", *allowed])
                if name == "lr_scale":
                    values[name] = not_negative(f"lr_scale of group {pattern!r}", value)
                else:
                    values[name] = self._check(name, value)
            checked.append((pattern, values))
        return tuple(checked)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Parameter groups, as pairs (pattern of parameter names, overrides).

        The pattern has shell wildcards: "*.bias", "0.*". A parameter belongs to the first group
        whose pattern fits its name. Overrides are settings of the optimizer, and "lr_scale", which
        multiplies the learning rate.
        """
        return self._groups

    @groups.setter
    def groups(self, groups: Iterable[Group]) -> None:
        self._change(self._values, groups)

    @property
    def counts_epochs(self) -> bool:
        """Whether a learning rate depends on the epoch, not on the step alone."""
        rates = [self._values.get("lr"), *(values.get("lr") for _, values in self._groups)]
        return any(getattr(rate, "unit", "step") != "step" for rate in rates)

    def group_of(self, parameter: str) -> int:
        """Return the number of a parameter's group: 0 for none, k for `groups[k - 1]`."""
        from fnmatch import fnmatchcase

        for number, (pattern, _) in enumerate(self._groups, 1):
            if fnmatchcase(parameter, pattern):
                return number
        return 0

    def check_groups(self, parameters: Iterable[str]) -> None:
        """Raise ValueError if the pattern of a group fits none of the parameter names."""
        from fnmatch import fnmatchcase

        names = list(parameters)
        for pattern, _ in self._groups:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"the pattern {pattern!r} of a parameter group fits none of {', '.join(names)}"
                )

    # --- slots and rows ---

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state vectors, each as long as the parameters."""
        return ()

    @property
    def kernel(self) -> str:
        """Name of the native kernel that does the same as `update`."""
        return self.name

    @property
    def structure(self) -> tuple[Any, ...]:
        """What programs depend on; all other settings reach them in the rows of `hyper`."""
        return self.kernel, self.slots, tuple(pattern for pattern, _ in self._groups)

    def hyper(
        self, first_step: int, count: int, *, epoch: int = 0, group: int = 0
    ) -> NDArray[np.float64]:
        """Return the scalars of a span of steps.

        Parameters
        ----------
        first_step : int
            Number of the first step; the first update ever is step 1.
        count : int
            Number of steps.
        epoch : int
            Epoch to which the span belongs, counted from 0, for schedules per epoch.
        group : int
            Parameter group: 0 for parameters of no group, k for `groups[k - 1]`.

        Returns
        -------
        ndarray of float64, shape (count, H)
            Columns as in `hyper_names`. A row depends on its step's number, not on the span.
            Read-only, since rows are kept. Where all are the same they are one (strides of zero),
            which then holds for every later step, until a setting changes.
        """
        first_step = check_integer("first_step", first_step, low=1)
        count = check_integer("count", count, low=0)
        group = check_integer("group", group, low=0, high=len(self._groups))
        overrides = self._groups[group - 1][1] if group else {}
        values = {**self._values, **overrides}
        if hasattr(values["lr"], "rates") or count > _KEPT:
            return self._rows(first_step, count, epoch, values)
        # Without a schedule a step's number is all that matters, and steps come one after the
        # other: whole blocks of rows are computed and kept.
        block, start = divmod(first_step - 1, _KEPT)
        rows = self._block(block, group, values)
        if start + count > _KEPT:
            rows = np.concatenate([rows, self._block(block + 1, group, values)])
            rows.flags.writeable = False
        return rows[start : start + count]

    def _block(self, number: int, group: int, values: Values) -> NDArray[np.float64]:
        rows = self._blocks.get((number, group))
        if rows is None:
            kept = 2 * (len(self._groups) + 1)
            self._blocks = dict(list(self._blocks.items())[1 - kept :])
            rows = self._blocks[number, group] = self._rows(number * _KEPT + 1, _KEPT, 0, values)
        return rows

    def _rows(self, first_step: int, count: int, epoch: int, values: Values) -> NDArray[np.float64]:
        steps = np.arange(first_step, first_step + count, dtype=np.int64)
        lr = values["lr"]
        rates = lr.rates(steps - 1, epoch) if hasattr(lr, "rates") else lr
        columns = self._columns(steps, rates * values.get("lr_scale", 1.0), values)
        if not any(isinstance(column, np.ndarray) for column in columns):
            return np.broadcast_to(np.array(columns, float), (count, len(columns)))
        rows = np.empty((count, len(columns)))
        for number, column in enumerate(columns):
            rows[:, number] = column
        rows.flags.writeable = False
        return rows

    def _columns(self, steps: Steps, lr: Rates, values: Values) -> Columns:
        """Return the columns of `hyper`: numbers, or arrays over the steps."""
        raise NotImplementedError

    def update(self, w: Floats, g: Floats, slots: Slots, hyper_row: Row) -> None:
        """Make one step, in place.

        Parameters
        ----------
        w : ndarray
            Parameters; changed.
        g : ndarray
            Gradients, of the same shape and dtype; not changed.
        slots : sequence of ndarray
            State vectors as in `slots`; changed.
        hyper_row : ndarray of float64, shape (H,)
            A row of `hyper`.
        """
        raise NotImplementedError

    # --- the place in a training ---

    def check_use(
        self, loss: Loss, batch_size: int | None, l1: float, **around: float | None
    ) -> None:
        """Raise ValueError if this optimizer cannot train in this way.

        `around` holds clip_value, clip_norm and ema, None for what is not asked for.
        """

    def executor(
        self, kind: type[BaseExecutor], model: Any, loss: Loss, **settings: Any
    ) -> BaseExecutor:
        """Return what trains a model with this optimizer, on the backend of that kind."""
        return kind(model, loss, self, **settings)

    # --- the explicit way ---

    def state_for(self, model: Any) -> OptimizerState:
        """Return the state kept for a model, made at the first call.

        Where the setting that decides about slots was changed in between, slots of the same name
        stay and new ones start as zeros; a model of another size or dtype starts afresh.
        """
        flat = model.flat_parameters
        state = self._states.get(model)
        if state is not None and state.names == self.slots:
            return state
        fresh = OptimizerState(self.slots, len(flat), flat.dtype)
        if state is not None:
            fresh.step, fresh.epoch = state.step, state.epoch
            fresh.average, fresh.averaged_from = state.average, state.averaged_from
            kept = dict(zip(state.names, state.slots, strict=True))
            fresh.slots = [kept.get(n, s) for n, s in zip(fresh.names, fresh.slots, strict=True)]
        self._states[model] = fresh
        return fresh

    def lend(self, model: Any) -> Optimizer:
        """Return a copy with settings of its own, which goes on with the state kept for a model."""
        import copy

        twin = copy.copy(self)
        if model in self._states:
            twin._states[model] = self._states[model]
        return twin

    def take_back(self, twin: Optimizer, model: Any) -> None:
        """Keep the state that a copy made by `lend` has of a model."""
        if model in twin._states:
            self._states[model] = twin._states[model]

    def step(self, model: Any) -> None:
        """Update a model's parameters from its gradients, as `model.backward` left them.

        Frozen parameters stay as they are.

        Raises
        ------
        ValueError
            If the pattern of a group fits no parameter.
        """
        parts = self.parts(model)
        state = self.state_for(model)
        rows = [
            self.hyper(state.step + 1, 1, epoch=state.epoch, group=number)[0]
            for number in range(len(self._groups) + 1)
        ]
        w, g = model.flat_parameters.array(), model.flat_gradients.array()
        slots = [slot.array() for slot in state.slots]
        for part, group in parts:
            self.update(w[part], g[part], [slot[part] for slot in slots], rows[group])
        for spec in model.parameter_specs:
            if spec.max_norm is not None and spec.trainable:
                weight = w[spec.offset : spec.offset + spec.size].reshape(spec.shape)
                limit_columns(weight, spec.max_norm)
        state.step += 1

    def parts(self, model: Any) -> list[tuple[slice, int]]:
        """Return the trainable parts of a model's flat vector, each with its group's number."""
        free = model.trainable_slices()
        if not self._groups:
            return [(part, 0) for part in free]
        specs = model.parameters.specs
        self.check_groups(spec.name for spec in specs)
        parts = []
        for spec in specs:
            start, stop = spec.offset, spec.offset + math.prod(spec.shape)
            if any(part.start <= start and stop <= part.stop for part in free):
                parts.append((slice(start, stop), self.group_of(spec.name)))
        return parts

    # --- plain data ---

    def config(self) -> dict[str, Any]:
        """Return the name, the settings and the groups as plain data; the state is not part."""
        from fastmlp.registry import plain

        groups = [
            [pattern, {name: plain(value) for name, value in overrides.items()}]
            for pattern, overrides in self._groups
        ]
        values = {name: plain(value) for name, value in self._values.items()}
        return {"name": self.name, **values, "groups": groups}

    def __repr__(self) -> str:
        inside = [f"{name}={value!r}" for name, value in self._values.items()]
        inside += [f"groups={list(self._groups)!r}"] if self._groups else []
        return f"{type(self).__name__}({', '.join(inside)})"

    def __getstate__(self) -> dict[str, Any]:
        left = ("_states", "_blocks")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import weakref

        self.__dict__.update(state)
        self._blocks = {}
        self._states = weakref.WeakKeyDictionary()


@lru_cache(maxsize=64)
def _powers(base: float, block: int) -> NDArray[np.float64]:
    """Return base**k for the exponents k of a block, by repeated squaring from the lowest bit."""
    if block == 0:
        remaining, factor = np.arange(_BLOCK), base
        result = np.ones(_BLOCK)
        while remaining.any():
            result = np.where(remaining & 1, result * factor, result)
            remaining >>= 1
            factor *= factor
        return result
    # The lowest bits are those of block 0, and all exponents have the others in common.
    result, factor = _powers(base, 0), base
    for _ in range(_BLOCK.bit_length() - 1):
        factor *= factor
    while block:
        if block & 1:
            result = result * factor
        block >>= 1
        factor *= factor
    return result


def power(base: float, exponents: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return base**k for integers k >= 0, 0 <= base <= 1, which lie close together.

    Multiplications alone give the same bits on every CPU, which `numpy.power` does not; the
    relative error of about k·ε is far below what training can see where the power is not yet 0.
    """
    if not exponents.size:
        return np.ones(exponents.shape)
    first, last = int(exponents.min()) // _BLOCK, int(exponents.max()) // _BLOCK
    blocks = [_powers(base, block) for block in range(first, last + 1)]
    table = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return table[exponents - first * _BLOCK]

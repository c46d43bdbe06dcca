"""What a layer or an activation is called in other frameworks: described once, read both ways.

A class says it beside its own definition, in `counterparts`, so that adding one touches no
converter: those of `fastmlp.exports` walk the registries and read what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The class, or function, of another framework that stands for one of ours.

    Attributes
    ----------
    name : str
        What it is called there: "Linear" in torch.nn, "Dense" in keras.layers.
    settings : mapping of str to str
        Our attribute -> its constructor's argument, which is also its attribute. `input_size` is
        the number of inputs where it is told that.
    complements : mapping of str to str
        Likewise, where it has one minus our value.
    fixed : mapping of str to object
        Its argument and attribute -> the value with which alone it computes what ours does; a
        tuple has several such values, the first of which is used to make one.
    arrays : mapping of str to str
        Our parameter or state -> its attribute that holds the array.
    transposed : tuple of str
        Those of our names whose arrays are transposed there.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    complements: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes of one of theirs that say what it computes."""
        return *self.settings.values(), *self.complements.values(), *self.fixed

    def arguments(self, ours: object) -> dict[str, Any]:
        """Return the arguments with which its constructor makes what stands for `ours`."""
        values = {name: _allowed(value)[0] for name, value in self.fixed.items()}
        values |= {theirs: getattr(ours, name) for name, theirs in self.settings.items()}
        return values | {
            theirs: _complement(getattr(ours, name)) for name, theirs in self.complements.items()
        }

    def settings_from(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """Return our settings, and `input_size`, from the attributes of one of theirs.

        Raises
        ------
        ValueError
            If one has a value with which it computes something else.
        """
        different = [
            f"{name}={theirs[name]!r} (only {' or '.join(map(repr, _allowed(value)))})"
            for name, value in self.fixed.items()
            if theirs[name] not in _allowed(value)
        ]
        if different:
            raise ValueError(f"it has {', '.join(different)}, which fastmlp cannot represent")
        values = {name: theirs[attribute] for name, attribute in self.settings.items()}
        return values | {
            name: _complement(theirs[attribute]) for name, attribute in self.complements.items()
        }


def _complement(value: float) -> float:
    return round(1.0 - value, 15)  # so that 0.9 is the complement of 0.1, to the digit


def _allowed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, slots=True)
class Counterparts:
    """What stands for a layer or an activation, by framework; None where nothing does.

    Attributes
    ----------
    torch : Counterpart or None
        A class of torch.nn.
    keras : Counterpart or None
        A class of keras.layers.
    keras_function : Counterpart or None
        A function of keras.activations; its settings are keyword arguments.
    sklearn : Counterpart or None
        What MLPClassifier and MLPRegressor call an activation.
    """

    torch: Counterpart | None = None
    keras: Counterpart | None = None
    keras_function: Counterpart | None = None
    sklearn: Counterpart | None = None

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
        Our attribute -> its constructor's argument, which is also its attribute.
    fixed : mapping of str to object
        Its argument and attribute -> the value with which alone it computes what ours does; a
        tuple has several such values, the first of which is used to make one.
    arrays : mapping of str to str
        Our parameter or state -> its array.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, ours: object) -> dict[str, Any]:
        """Return the arguments with which its constructor makes what stands for `ours`."""
        values = {name: _allowed(value)[0] for name, value in self.fixed.items()}
        return values | {theirs: getattr(ours, name) for name, theirs in self.settings.items()}

    def differences(self, theirs: Mapping[str, Any]) -> list[str]:
        """Return what in the attributes of one of theirs has no form here, for a message."""
        return [
            f"{name}={theirs[name]!r} (only {' or '.join(map(repr, _allowed(value)))})"
            for name, value in self.fixed.items()
            if name in theirs and theirs[name] not in _allowed(value)
        ]


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

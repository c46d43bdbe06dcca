"""Objects that are a registered name and plain-data settings: activations, losses, metrics, …"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.errors import choose, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol, TypeVar

    class Named(Protocol):
        """What a registry holds."""

        name: str
        settings: tuple[str, ...]

    T = TypeVar("T", bound=Named)


class Configurable:
    """Base of immutable objects that are described by their name and settings.

    A subclass sets `name`, lists its constructor's arguments in `settings`, and stores them with
    `_set`. Objects of one class with equal settings are equal, so plans can be cached by them.

    Attributes
    ----------
    name : str
        The name in the registry.
    settings : tuple of str
        Attributes that are also the constructor's arguments.
    """

    name: str = ""
    settings: tuple[str, ...] = ()

    def _set(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setattr__(self, attribute: str, value: object) -> None:
        raise AttributeError(f"{self!r} cannot be changed; make a new one with another {attribute}")

    def __delattr__(self, attribute: str) -> None:
        raise AttributeError(f"{self!r} cannot be changed: {attribute} cannot be deleted")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.settings)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({inside})"

    def config(self) -> dict[str, Any]:
        """Return the name and the settings as plain data: strings, numbers, lists, dicts."""
        return {"name": self.name, **{name: plain(getattr(self, name)) for name in self.settings}}


def plain(value: Any) -> Any:
    """Return a setting as plain data: tuples become lists, configurable objects their config."""
    if hasattr(value, "config"):
        return value.config()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def resolve(argument: str, value: object, registry: Mapping[str, type[T]], base: type[T]) -> T:
    """Return `value` if it is an object of `base`, or a new one of the registered name.

    Raises
    ------
    TypeError
        If `value` is neither a name nor an object of `base`.
    ValueError
        If the name is not registered; the message has the closest one.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, str):
        names = ", ".join(map(repr, registry))
        got = shown(value)
        if isinstance(value, type):
            got = f"the class {value.__name__}, not an object of it"
        raise TypeError(f"{argument} must be {names} or of type {base.__name__}; got {got}")
    return registry[choose(argument, value, registry)]()


def build(
    argument: str,
    config: Mapping[str, Any],
    registry: Mapping[str, type[T]],
    also: tuple[str, ...] = (),
) -> T:
    """Return the object that a `config()` describes.

    Parameters
    ----------
    argument : str
        What the messages call the object.
    config : mapping
        A "name", and settings as plain data.
    registry : mapping
        Classes by name.
    also : tuple of str
        Arguments that the constructors accept beside the class's `settings`.

    Raises
    ------
    TypeError
        If `config` is not a mapping with a string "name".
    ValueError
        If the name is unknown, a setting does not exist, or its value is refused.
    """
    if not hasattr(config, "keys") or "name" not in config:
        raise TypeError(f"{argument} must be a mapping with a 'name'; got {shown(config)}")
    settings = dict(config)
    kind = registry[choose(f"{argument} name", settings.pop("name"), registry)]
    for setting in settings:
        choose(f"setting of {kind.name}", setting, [*kind.settings, *also])
    return kind(**settings)

"""Another name of `fastmlp.pictures.training_curves`."""

from fastmlp.pictures.curves import training_curves

__all__ = ["training_curves"]

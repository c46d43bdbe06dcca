"""Exceptions and argument checks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastmlp.errors import (
    DivergenceError,
    ModelFormatError,
    check_flag,
    check_integer,
    check_number,
    choose,
    shown,
)


def test_choose_returns_a_valid_name():
    assert choose("loss", "mse", ["mse", "mae"]) == "mse"


@pytest.mark.parametrize("typo", ["msee", "MSE", "mes"])
def test_choose_names_argument_value_allowed_and_closest(typo):
    message = f"loss must be one of 'mse', 'huber'; got '{typo}'; did you mean 'mse'"
    with pytest.raises(ValueError, match=message):
        choose("loss", typo, ["mse", "huber"])


def test_choose_without_a_close_name_has_no_hint():
    with pytest.raises(ValueError, match=r"one of 'mse'; got 'zzz'$"):
        choose("loss", "zzz", ["mse"])


@pytest.mark.parametrize("value", [None, 3, b"mse", ["mse"]])
def test_choose_refuses_what_is_no_string(value):
    with pytest.raises(TypeError, match="loss must be a string"):
        choose("loss", value, ["mse"])


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int8(1), np.float16(1), np.array(1.0)])
def test_check_number_converts_real_numbers(value):
    number = check_number("lr", value, low=0)
    assert type(number) is float
    assert number == 1.0


@pytest.mark.parametrize("value", ["1.0", None, True, np.True_, 1j, [1.0], np.array([1.0]), b"1"])
def test_check_number_refuses_other_types(value):
    with pytest.raises(TypeError, match="lr must be a finite number >= 0; got"):
        check_number("lr", value, low=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_check_number_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="lr must be a finite number; got"):
        check_number("lr", value)


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "text"),
    [
        ({"low": 0.0}, 0.0, -1e-9, ">= 0"),
        ({"low": 0.0, "open_low": True}, 1e-9, 0.0, "> 0"),
        ({"high": 1.0}, 1.0, 1.1, "<= 1"),
        ({"low": 0.0, "high": 1.0, "open_high": True}, 0.0, 1.0, ">= 0 and < 1"),
    ],
)
def test_check_number_bounds(bounds, good, bad, text):
    assert check_number("beta", good, **bounds) == good
    with pytest.raises(ValueError, match=f"beta must be a finite number {text}; got {bad!r}"):
        check_number("beta", bad, **bounds)


@pytest.mark.parametrize(
    ("value", "names", "meant"),
    [
        ("binary_crossentropy", ["bce", "cross_entropy"], "bce"),
        ("linear", ["identity", "leaky_relu"], "identity"),
        ("linear", ["leaky_relu", "relu"], "leaky_relu"),
    ],
)
def test_choose_knows_what_others_call_it(value, names, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        choose("loss", value, names)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_check_integer_converts(value):
    number = check_integer("epochs", value, low=1)
    assert type(number) is int
    assert number == 3


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.True_, np.float64(3), [3]])
def test_check_integer_refuses_other_types(value):
    with pytest.raises(TypeError, match="epochs must be an integer >= 1; got"):
        check_integer("epochs", value, low=1)


def test_check_integer_bounds():
    with pytest.raises(ValueError, match="epochs must be an integer >= 1 and <= 9; got 0"):
        check_integer("epochs", 0, low=1, high=9)
    with pytest.raises(ValueError, match="got 10"):
        check_integer("epochs", 10, low=1, high=9)
    assert check_integer("epochs", -5) == -5


def test_check_flag():
    assert check_flag("nesterov", np.True_) is True
    assert check_flag("nesterov", False) is False
    for value in (1, 0, None, "True"):
        with pytest.raises(TypeError, match="nesterov must be True or False; got"):
            check_flag("nesterov", value)


def test_long_values_are_shortened():
    assert len(shown("x" * 1000)) < 90
    assert shown(3) == "3"


def test_divergence_error_keeps_its_attributes_through_pickle():
    error = DivergenceError("loss became nan", epoch=3, batch=7, loss=float("inf"))
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, ArithmeticError)
    assert (str(copy), copy.epoch, copy.batch, copy.loss) == ("loss became nan", 3, 7, float("inf"))


def test_model_format_error_is_a_value_error():
    assert issubclass(ModelFormatError, ValueError)

"""A model to be saved, and a safetensors file taken apart and put together again."""

import json
import struct

import numpy as np

from fastmlp import layers, model


def make(dtype="float32", seed=3):
    stack = [
        layers.Standardize(),
        layers.Dense(4, "tanh"),
        layers.Dense(5, "leaky_relu", bias=False),
        layers.Dense(2, "softmax", initializer="normal"),
    ]
    stack[1].trainable = False
    network = model.Sequential(stack, 3, dtype=dtype, seed=seed)
    network.adapt(np.random.default_rng(0).normal(size=(20, 3)) * [1, 10, 100] + [0, 5, -5])
    return network


def split(path):
    """Take a safetensors file apart: its header as Python objects, and the bytes behind it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)

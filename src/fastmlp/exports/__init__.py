"""Models for other programs: C, ONNX, PyTorch, Keras, scikit-learn.

A model is a plan of steps. `c` and `onnx` write its forward steps one by one: a row of their table
`OPS` for each operation, as in `fastmlp.backends.reference`; a layer that is composed of existing
steps needs nothing. What an activation is stands in its class: `c_code`, `to_onnx`. `torch`,
`keras` and `sklearn` go layer by layer, and read what layers and activations say of themselves in
`counterparts`.

The packages are imported when they are used; each is an extra of fastmlp's.
"""

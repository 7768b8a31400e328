"""Checkpoints: named tensors in files, in the formats that DeepSeek published and others read.

A checkpoint is three things, and this room has a page for each: a way of writing a file so that it is there
whole or not at all (`atomic`), a container of named arrays (`safetensors`), and a folder in which such
containers lie beside a `config.json` that says how the arrays fit together (`config_json`, `folder`).

Does: read and write model folders in Hugging Face's layout, float32 and the plain NumPy formats, BF16 on
reading; map files instead of reading them. Does not: FP8 weights with their scales; unpickle anything, ever.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(f"{folder}/two.safetensors", {"a": np.arange(3), "b": np.ones((2, 2), "f")})
    ...     tensors = read_safetensors(f"{folder}/two.safetensors")
    >>> tensors["a"].tolist(), tensors["b"].shape
    ([0, 1, 2], (2, 2))

Next: minidsv3.checkpoint.atomic
"""

from minidsv3.checkpoint.atomic import replacing
from minidsv3.checkpoint.config_json import from_hugging_face, to_hugging_face
from minidsv3.checkpoint.folder import read_folder, write_folder
from minidsv3.checkpoint.safetensors import read_header, read_safetensors, write_safetensors

__all__ = [
    "from_hugging_face",
    "read_folder",
    "read_header",
    "read_safetensors",
    "replacing",
    "to_hugging_face",
    "write_folder",
    "write_safetensors",
]

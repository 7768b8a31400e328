"""Checkpoints: named tensors in files, in the formats that DeepSeek published and others read.

A checkpoint is three things, and this room has its pages for each: a way of writing a file so that it is
there whole or not at all (`atomic`), a container of named arrays (`header`, `safetensors`), and a folder in
which such containers lie beside a `config.json` that says how the arrays fit together and how FP8 weights are
scaled (`config_json` to `saving`).

Does: read and write model folders in Hugging Face's layout, in float32, BF16 and FP8 with scales, one tensor
in memory at a time. What is refused raises a CheckpointError. Does not: unpickle anything, ever.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(f"{folder}/two.safetensors", {"a": np.arange(3), "b": np.ones((2, 2), "f")})
    ...     tensors = read_safetensors(f"{folder}/two.safetensors")
    >>> tensors["a"].tolist(), tensors["b"].shape
    ([0, 1, 2], (2, 2))

Next: minidsv3.checkpoint.atomic
"""

from minidsv3.checkpoint.atomic import replacing, writing
from minidsv3.checkpoint.config_json import from_hugging_face, to_hugging_face
from minidsv3.checkpoint.folder import Folder, open_folder, read_folder
from minidsv3.checkpoint.header import CheckpointError
from minidsv3.checkpoint.safetensors import Coded, Later, read_header, read_safetensors, write_safetensors
from minidsv3.checkpoint.saving import write_folder
from minidsv3.checkpoint.scaled_blocks import decode_blocks, encode_blocks
from minidsv3.checkpoint.stored import StoredTensor

__all__ = [
    "CheckpointError",
    "Coded",
    "Folder",
    "Later",
    "StoredTensor",
    "decode_blocks",
    "encode_blocks",
    "from_hugging_face",
    "open_folder",
    "read_folder",
    "read_header",
    "read_safetensors",
    "replacing",
    "to_hugging_face",
    "write_folder",
    "write_safetensors",
    "writing",
]

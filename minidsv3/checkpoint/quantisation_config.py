"""`quantization_config` of a config.json: how the FP8 weights beside it are scaled.

    {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}

DeepSeek-V3, R1 and V3.1 have these four; V3.1 adds `scale_fmt`, "ue8m0", for the activations of its kernels.
The stored scales are float32 either way and need not be powers of two (`o_proj`'s are not), so that field
changes nothing here. What transformers adds without another meaning for the weights is passed over; any
other method of quantising is refused by name.

    >>> weight_block({"quant_method": "fp8", "weight_block_size": [128, 128]}, "config.json")
    (128, 128)
    >>> weight_block({"quant_method": "awq", "bits": 4}, "x")
    Traceback (most recent call last):
    minidsv3.checkpoint.header.CheckpointError: x: quantization_config: expected quant_method 'fp8', got 'awq'

Does: read and write the object. Does not: touch a number.

Next: minidsv3.checkpoint.scaled_blocks
"""

from collections.abc import Mapping

from minidsv3.checkpoint.header import CheckpointError, shown

__all__ = ["quantization_config", "weight_block"]

# field -> the values that mean what is computed here; a missing field or null means the first
_KNOWN: dict[str, tuple[object, ...]] = {
    "quant_method": ("fp8",),
    "fmt": ("e4m3", "float8_e4m3fn", None),
    "activation_scheme": ("dynamic", None),
    "scale_fmt": ("float32", "float", "ue8m0", None),
    "expert_dtype": ("fp8", None),  # transformers'; its other value is FP4
}
# about what is left unquantised, which the files show, and about how others load them
_IGNORED = (
    "modules_to_not_convert",
    "modules_to_convert",
    "ignored_layers",
    "dequantize",
    "is_checkpoint_fp8_serialized",
)


def weight_block(table: object, where: str) -> tuple[int, int] | None:
    """Rows and columns that share a scale, of a quantization_config; None for null: nothing is quantised.

    CheckpointError on what is not computed here, with the field's name.
    """
    if table is None:
        return None
    at = f"{where}: quantization_config"
    if not isinstance(table, Mapping):
        raise CheckpointError(f"{at}: expected an object, got {shown(table)}")
    for name, values in _KNOWN.items():
        if (value := table.get(name)) not in values:
            raise CheckpointError(f"{at}: expected {name} {values[0]!r}, got {shown(value)}")
    known = {*_KNOWN, *_IGNORED, "weight_block_size"}
    if unknown := sorted(name for name in table if name not in known and table[name] is not None):
        got = f"{unknown[0]}={shown(table[unknown[0]])}"
        raise CheckpointError(f"{at}: expected of FP8 the fields {', '.join(sorted(known))}, got {got}")
    block = table.get("weight_block_size")
    if not isinstance(block, list) or len(block) != 2 or not all(type(n) is int and n > 0 for n in block):
        raise CheckpointError(f"{at}: expected weight_block_size [rows, columns], got {shown(block)}")
    return block[0], block[1]


def quantization_config(block: tuple[int, int]) -> dict[str, object]:
    """The object for a config.json, as DeepSeek-V3's own; `weight_block` undoes it."""
    return {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": list(block),
    }

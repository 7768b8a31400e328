"""An educational interpreter of DeepSeek-V3 in explicit NumPy.

The names below are loaded when first used, so that `import minidsv3` and `minidsv3 --help` stay quick.

    >>> import minidsv3
    >>> minidsv3.ModelConfig.preset("nano").n_heads
    4

Next: minidsv3.config
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidsv3.config import ModelConfig, TrainConfig
    from minidsv3.cost import bill
    from minidsv3.hardware import load_hardware
    from minidsv3.interpreter import Model
    from minidsv3.machine import Machine
    from minidsv3.tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = ["Machine", "Model", "ModelConfig", "Tokenizer", "TrainConfig", "bill", "load_hardware"]

_HOMES = {
    "Machine": "machine",
    "Model": "interpreter",
    "ModelConfig": "config",
    "TrainConfig": "config",
    "Tokenizer": "tokenizer",
    "bill": "cost",
    "load_hardware": "hardware",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minidsv3' has no attribute {name!r}")
    return getattr(import_module(f"minidsv3.{_HOMES[name]}"), name)

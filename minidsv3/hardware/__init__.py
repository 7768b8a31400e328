"""What the machine is made of: chips, nodes, fabric, tensor core and price, as data with sources.

`load_hardware("h800")` reads `data/hardware/h800.toml`; a path reads the user's own file. Every value
there is `{ value, unit, source, status }`, is known by its dotted path, and is handed out in SI units with
its source beside it. A what-if is an edited file, or a file with some values changed (`with_values`): no code
knows a number of any chip.

Does: units, checks, look-up with errors that name file, key and expectation; tensor cores by family; changed
values; what differs between two machines.
Does not: price anything (`minidsv3.cost`), emulate the tensor core (`minidsv3.numerics`).

    >>> h800 = load_hardware("h800")
    >>> h800["chip.hbm.bandwidth"].si, h800["chip.hbm.bandwidth"].status
    (3350000000000.0, 'datasheet')
    >>> h800.tensor_core["fp8"].fraction_bits
    13

Next: minidsv3.hardware.units
"""

from minidsv3.hardware.difference import Difference, difference
from minidsv3.hardware.load import Hardware, hardware_names, load_hardware, read_hardware
from minidsv3.hardware.overrides import parse_change, parse_changes, spelled, with_values
from minidsv3.hardware.tensor_cores import TENSOR_CORES, TensorCore, tensor_core
from minidsv3.hardware.units import Quantity

__all__ = [
    "TENSOR_CORES",
    "Difference",
    "Hardware",
    "Quantity",
    "TensorCore",
    "difference",
    "hardware_names",
    "load_hardware",
    "parse_change",
    "parse_changes",
    "read_hardware",
    "spelled",
    "tensor_core",
    "with_values",
]

"""V3's decoding priced on several machines, and on one that nobody sells.

The rows of a decoding step are written from V3's config and the layout of the published profile (EP128, 128
requests a GPU), and priced on each machine's data. The last row is a what-if: an H800 with four times the
memory bandwidth and twice the network.

    python examples/decode_on_other_machines.py
"""

from minidsv3 import ModelConfig, load_hardware
from minidsv3.cost import default_deployment, phase_bill
from minidsv3.hardware import with_values
from minidsv3.show.numbers import duration


def main() -> None:
    v3, decode = ModelConfig.preset("v3"), default_deployment("decode")
    wished = with_values(
        load_hardware("h800"), {"chip.hbm.bandwidth": "13.4TB/s", "fabric.effective": "80GB/s"}
    )
    machines = [load_hardware(name) for name in ("h800", "h200", "b200")]
    for label, machine in [*((one.name, one) for one in machines), ("H800, if it had …", wished)]:
        step = phase_bill(v3, machine, decode)
        print(f"{label:18} computing {duration(step.compute_seconds):>8}", end="")
        print(f"  communicating {duration(step.communication_seconds):>8}  bound by {step.bound:7}", end="")
        print(f"  at most {step.tokens_per_second:6,.0f} tokens/s a GPU")


if __name__ == "__main__":
    main()

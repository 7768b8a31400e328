"""One prediction, op by op, and what it would cost on an H800.

A model of preset nano with random weights reads five tokens and predicts the sixth. A tracing machine writes
a row for every equation it computes; the bill prices the rows on the data of an H800.

    python examples/one_prediction_priced.py
"""

import numpy as np

from minidsv3 import Machine, Model, ModelConfig, bill, load_hardware
from minidsv3.cost import kv_bytes_per_token
from minidsv3.show import plain_text
from minidsv3.show.tables import BillTable, bill_summary


def main() -> None:
    config = ModelConfig.preset("nano")
    model = Model.initialise(config, seed=0)
    tokens = np.array([[17, 4, 256, 33, 9]])  # [B, T]

    machine = Machine(trace=True, keep="mla.kv_norm")
    logits = model.logits(tokens, machine)  # [B, T, V]
    print(f"next token: {logits[0, -1].argmax()} of {config.vocab_size}")

    # what the latent cache would keep of layer 0: c_KV, and the one rotated key that all heads share
    c_KV = machine.trace.value("mla.kv_norm", layer=0)  # [N, d_c]
    print(f"c_KV {c_KV.shape}, and k_R of {config.qk_rope_head_dim} numbers a token")
    print(f"cache: {kv_bytes_per_token(config)} bytes a token in all {config.n_layers} layers, in BF16\n")

    priced = bill(machine.trace, load_hardware("h800"), config=config)
    print(plain_text(bill_summary(priced)))
    print(plain_text(BillTable(priced, rows=10), width=120))


if __name__ == "__main__":
    main()

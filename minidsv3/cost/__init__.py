"""What it costs: a trace priced on a machine, and closed forms for the models that no laptop runs.

`bill(trace, hardware)` folds the rows of a trace into seconds and totals. FLOPs and bytes come from the
trace, rates from the hardware file, so there is one truth about each. The closed forms are the same counts
written as arithmetic on a `ModelConfig`; tests hold them equal to the trace, number for number.

Does: rates, the bill, a config's KV bytes and FLOPs a token, closed forms of forward, backward, decoding.
Does not: run a model, overlap kernels, count their launches, draw (`minidsv3.show`).

    >>> from minidsv3.config import ModelConfig
    >>> kv_bytes_per_token(ModelConfig.preset("v3"))
    70272

Next: minidsv3.cost.per_token
"""

from minidsv3.cost.bill import Bill, Line, OpTotal, Total, bill
from minidsv3.cost.closed_form import (
    decode_absorbed_work,
    decode_naive_work,
    prefill_work,
    training_work,
)
from minidsv3.cost.deployment import Deployment, default_deployment, deployment_names, load_deployment
from minidsv3.cost.per_token import (
    kv_bytes_grouped,
    kv_bytes_mha,
    kv_bytes_mqa,
    kv_bytes_per_token,
    training_flops_per_token,
)
from minidsv3.cost.phase_bill import PhaseBill, phase_bill
from minidsv3.cost.rates import Rates, rates
from minidsv3.cost.rows import rows_of
from minidsv3.cost.work import Work

__all__ = [
    "Bill",
    "Deployment",
    "Line",
    "OpTotal",
    "PhaseBill",
    "Rates",
    "Total",
    "Work",
    "bill",
    "decode_absorbed_work",
    "decode_naive_work",
    "default_deployment",
    "deployment_names",
    "kv_bytes_grouped",
    "kv_bytes_mha",
    "kv_bytes_mqa",
    "kv_bytes_per_token",
    "load_deployment",
    "phase_bill",
    "prefill_work",
    "rates",
    "rows_of",
    "training_flops_per_token",
    "training_work",
]

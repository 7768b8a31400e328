"""What it costs: traces priced on a machine, for models that run here and for those that no laptop runs.

`bill(trace, hardware)` folds the rows of a trace into seconds and totals. FLOPs and bytes come from the
trace, rates from the hardware file, so there is one truth about each. `rows_of(config, deployment)` makes
the rows of a model that never ran, `phase_bill` prices one GPU of its deployment. Closed forms are the same
counts written as arithmetic; tests hold traces, rows and closed forms equal, number for number.

Handed out here is what a bill needs; figures, memory, training runs, comparisons and the co-design table are
imported from their own pages (`minidsv3.cost.published` and so on), so that a bill does not wait for them.

Does: counts, rates, bills, what-ifs, published figures recomputed. Does not: run a model, draw.

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
from minidsv3.cost.scenarios import Scenario, scenario_named, scenario_names, what_if
from minidsv3.cost.what_if import Comparison, Effect
from minidsv3.cost.work import Work

__all__ = [
    "Bill",
    "Comparison",
    "Deployment",
    "Effect",
    "Line",
    "OpTotal",
    "PhaseBill",
    "Rates",
    "Scenario",
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
    "scenario_named",
    "scenario_names",
    "training_flops_per_token",
    "training_work",
    "what_if",
]

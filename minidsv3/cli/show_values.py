"""`minidsv3 show value`, `heatmap`, `attention`, `difference`, `timeline`: pictures of one pass of a model.

`value` draws any op's result as its kind asks for, `heatmap` as a matrix, or a weight by its name;
`attention` shows where tokens look; `difference` runs two precisions and shows where an op's results part;
`timeline` lays the pass along the time it takes on a machine.

Does: run the pass, hand results over. Does not: choose pictures (`minidsv3.show.value`).

    >>> last_part("W", ["model.layers.0.W", "model.V"])
    'model.layers.0.W'

Next: minidsv3.cli.show_routing
"""

import argparse
from typing import TYPE_CHECKING, Any

from minidsv3.cli.kept_values import kept, open_source, place_arguments, run, source_arguments
from minidsv3.cli.show import Subject, present

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from minidsv3.cli.kept_values import Source
    from minidsv3.machine import Row

__all__ = ["SUBJECTS", "last_part"]

MOST_VALUES = 4096  # of an array in JSON
PLACES = ("head", "token", "expert")


def _facts(values: "NDArray[Any]") -> dict[str, Any]:
    """Shape, extremes and, if they are few, the values."""
    import numpy as np

    finite = values[np.isfinite(values)].astype(np.float64)
    ends = {"largest": float(finite.max()), "smallest": float(finite.min())} if finite.size else {}
    rms = {"rms": float(np.sqrt((finite**2).mean()))} if finite.size else {}
    return {"shape": list(values.shape), **ends, **rms} | (
        {"values": _plain(values)} if values.size <= MOST_VALUES else {}
    )


def _plain(values: "NDArray[Any]") -> Any:
    """Nested lists; what is no finite number in words."""
    import numpy as np

    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [_plain(row) for row in values] if values.ndim else str(float(values))
    return values.tolist()


def _about(source: "Source", row: "Row") -> dict[str, Any]:
    from minidsv3.machine import look_up

    said = {"source": source.said, "ids": source.ids, "op": row.op, "formula": look_up(row.op).formula}
    return said | {"layer": row.layer, "expert": row.expert}


def _title(row: "Row") -> str:
    layer = "" if row.layer is None else f", layer {row.layer}"
    return row.op + layer + ("" if row.expert is None else f", expert {row.expert}")


def _axes(row: "Row") -> tuple[str, ...]:
    """Axes of an op's result; an expert's rows are some of the tokens, which ones is not known."""
    from minidsv3.machine import look_up

    axes = look_up(row.op).signature.result
    return tuple("row" if axis == "N" and row.expert is not None else axis for axis in axes)


def _places(args: argparse.Namespace, row: "Row") -> dict[str, int]:
    """What of an array's axes was asked for; ValueError for an axis that it does not have."""
    from minidsv3.show.value import NAMES

    axes = [NAMES.get(axis, axis) for axis in _axes(row)]
    asked = {name: getattr(args, name) for name in ("head", "token") if getattr(args, name) is not None}
    if missing := [name for name in asked if name not in axes]:
        raise ValueError(f"expected places of {row.op}, [{', '.join(axes)}], got --{missing[0]}")
    return asked


# ---- value, heatmap ---------------------------------------------------------------------------------------


def _value_arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    place_arguments(parser, "head.logits", *PLACES)


def _value(args: argparse.Namespace) -> int:
    return _result(args, open_source(args), "value", of_its_kind=True)


def _result(args: argparse.Namespace, source: "Source", subject: str, of_its_kind: bool) -> int:
    """An op's result.  of_its_kind: as the picture that such an op asks for, else as a matrix."""
    from minidsv3.machine import look_up
    from minidsv3.show.measurements import Page
    from minidsv3.show.value import picture_of

    row = kept(source, args.op, args.layer, args.expert)
    op, at, kind = look_up(row.op), _places(args, row), row.op if of_its_kind else ""
    assert row.value is not None
    words: dict[str, Any] = {
        "op": kind,
        "symbol": op.symbols[-1],
        "axes": _axes(row),
        "at": at,
        "labels": source.labels,
    }
    picture = picture_of(_title(row), row.value, **words)
    page = Page(source.said, {f"{op.formula}   eq. {', '.join(op.equations)}": picture})
    return present(args, f"{subject} {row.op}", page, _about(source, row) | _facts(row.value))


def _heatmap_arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    place_arguments(parser, "mla.kv_norm", *PLACES)
    parser.add_argument("--tensor", metavar="NAME", help="a weight by its published name, or that name's end")


def _heatmap(args: argparse.Namespace) -> int:
    source = open_source(args)
    return _weight(args, source) if args.tensor else _result(args, source, "heatmap", of_its_kind=False)


def _weight(args: argparse.Namespace, source: "Source") -> int:
    """A weight of the model."""
    import numpy as np

    from minidsv3.show.value import picture_of

    name = last_part(args.tensor, list(source.model.config.tensor_shapes()))
    values = np.asarray(source.model.parameters[name])
    table = {"source": source.said, "tensor": name} | _facts(values)
    return present(args, f"heatmap {name}", picture_of(name, values), table)


def last_part(asked: str, names: list[str]) -> str:
    """The name that is asked for in full, or the first that ends in it; ValueError if there is none."""
    from minidsv3.config import near

    found = [name for name in names if name == asked] or [n for n in names if n.endswith(f".{asked}")]
    if not found:
        raise ValueError(f"expected a tensor of the model, got {asked!r}: {near(asked, names)}")
    return found[0]


# ---- attention --------------------------------------------------------------------------------------------


def _attention_arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    place_arguments(parser, "", "head")


def _attention(args: argparse.Namespace) -> int:
    from minidsv3.show.attention_map import AttentionMap

    source = open_source(args)
    row = kept(source, "mla.softmax", args.layer)
    assert row.value is not None
    picture = AttentionMap(
        row.value, source.labels, args.head, f"attention of layer {row.layer}; {source.said}"
    )
    heads = range(len(row.value)) if args.head is None else [args.head]
    table = _about(source, row) | {
        "heads": [
            {
                "head": head,
                "entropy_bits": picture.entropies(head),
                "most": picture.p[head].max(axis=1).tolist(),
                "most_at": picture.p[head].argmax(axis=1).tolist(),
            }
            for head in heads
        ]
    }
    return present(args, f"attention layer {row.layer}", picture, table | _facts(row.value))


# ---- difference -------------------------------------------------------------------------------------------


def _difference_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.cli.model_arguments import precision_arguments

    source_arguments(parser)
    place_arguments(parser, "mla.out", "expert")
    precision_arguments(parser)
    parser.set_defaults(precision="fp8")
    parser.add_argument("--against", default="fp32", metavar="NAME", help="the other precision (fp32)")


def _difference(args: argparse.Namespace) -> int:
    import numpy as np

    from minidsv3.show.heat_map import Axis, HeatMap
    from minidsv3.show.measurements import Page
    from minidsv3.show.numbers import percent
    from minidsv3.show.tensor_difference import TensorDifference

    source = open_source(args)
    row = kept(source, args.op, args.layer, args.expert, precision=args.precision, accumulate=args.accumulate)
    other = kept(source, args.op, row.layer, row.expert, precision=args.against)
    assert row.value is not None
    assert other.value is not None
    two = TensorDifference(row.value, other.value, names=(args.precision, args.against))
    table = _about(source, row) | {"precision": args.precision, "against": args.against}
    parts: dict[str, Any] = {"around the worst cell": two}
    remarks = []
    if two.difference is not None:
        with np.errstate(all="ignore"):
            error = float(np.sqrt((two.difference**2).sum() / (other.value.astype(np.float64) ** 2).sum()))
        matrix = two.difference.reshape(-1, two.difference.shape[-1])
        spelled = len(matrix) == len(source.labels) and _axes(row)[0] == "N"
        rows = Axis("token", source.labels) if spelled else Axis("row")
        parts["the difference"] = HeatMap(matrix, rows=rows, numbers=False)
        table |= {"relative_rms": error, "worst": two.worst, "difference": _facts(two.difference)}
        remarks = [f"error {percent(error)} of the result's size, by its root of mean squares"]
    title = f"{_title(row)}: {args.precision} against {args.against}; {source.said}"
    return present(args, f"difference {row.op}", Page(title, parts, remarks), table)


# ---- timeline ---------------------------------------------------------------------------------------------


def _timeline_arguments(parser: argparse.ArgumentParser) -> None:
    from minidsv3.cli.model_arguments import precision_arguments

    source_arguments(parser)
    precision_arguments(parser)
    parser.add_argument("--hardware", default="h800", help="a name or a file to price on (h800)")
    parser.add_argument("--backward", action="store_true", help="the text's loss, forward and backward")


def _timeline(args: argparse.Namespace) -> int:
    from minidsv3.cost import bill
    from minidsv3.hardware import load_hardware
    from minidsv3.machine import Machine
    from minidsv3.show.op_timeline import OpTimeline

    source, hardware = open_source(args), load_hardware(args.hardware)
    machine = Machine(hardware, args.precision, trace=True, accumulate=args.accumulate)
    priced = bill(run(source, machine, args.backward), hardware, config=source.model.config)
    picture = OpTimeline(priced, source.said)
    names = ("op", "part", "phase", "direction", "layer", "expert", "matrix_flops", "vector_flops")
    counts = ("bytes", "seconds", "bound")
    lines = [
        dict[str, Any]({name: getattr(line, name) for name in (*names, *counts)}) | {"end": end}
        for line, end in zip(priced.lines, picture.ends, strict=True)
    ]
    table: dict[str, Any] = {"source": source.said, "ids": source.ids, "hardware": priced.hardware}
    table |= {"rule": priced.rule, "precision": machine.precision, "seconds": picture.seconds, "ops": lines}
    return present(args, "timeline", picture, table)


SUBJECTS = {
    "value": Subject(
        "Any op's result, as the picture that its kind asks for.",
        [
            "minidsv3 show value                                # the likeliest next tokens",
            "minidsv3 show value --op mla.q_rope --head 1 --layer 2",
            "minidsv3 show value --op gate.top_k --model runs/nano-0 --json",
        ],
        _value_arguments,
        _value,
    ),
    "heatmap": Subject(
        "A matrix: an op's result or a weight, as numbers if it is small.",
        [
            "minidsv3 show heatmap --op mla.kv_norm --layer 1",
            "minidsv3 show heatmap --op mla.scores --head 2 --text 'import os'",
            "minidsv3 show heatmap --tensor mlp.gate.weight --svg gate.svg",
        ],
        _heatmap_arguments,
        _heatmap,
    ),
    "attention": Subject(
        "Where each token looks: probabilities with the mask hatched, entropies beside them.",
        [
            "minidsv3 show attention",
            "minidsv3 show attention --layer 2 --head 0 --text 'def main():'",
            "minidsv3 show attention --ids 5,6,7,8 --json",
        ],
        _attention_arguments,
        _attention,
    ),
    "difference": Subject(
        "An op's result under two precisions: where they part, and by how much.",
        [
            "minidsv3 show difference --op mla.out",
            "minidsv3 show difference --op head.logits --precision bf16",
            "minidsv3 show difference --op experts.combine --precision fp8 --against bf16 --json",
        ],
        _difference_arguments,
        _difference,
    ),
    "timeline": Subject(
        "A pass along the time it takes on a machine: which part runs when, what it has cost so far.",
        [
            "minidsv3 show timeline",
            "minidsv3 show timeline --backward --precision fp8",
            "minidsv3 show timeline --hardware h100 --text 'import os' --json",
        ],
        _timeline_arguments,
        _timeline,
    ),
}

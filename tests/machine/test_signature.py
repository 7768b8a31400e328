"""Signatures: what they accept, what they derive, and how they say no."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidsv3.config import ModelConfig
from minidsv3.machine.catalogue import Op, catalogue, look_up, primitives, symbols
from minidsv3.machine.signature import Signature

sizes = st.integers(1, 20)


@given(sizes, sizes, sizes)
def test_a_product_is_counted_from_its_axes(n: int, d: int, r: int) -> None:
    signature = Signature.parse("N D, R D -> N R")
    bound = signature.bind([(n, d), (r, d)])
    assert bound == {"N": n, "D": d, "R": r}
    assert signature.multiply_adds(bound) == n * d * r
    assert signature.elements(bound) == [n * d, r * d, n * r]


@pytest.mark.parametrize("op", catalogue().values(), ids=list(catalogue()))
def test_every_signature_reads_back(op: Op) -> None:
    assert Signature.parse(str(op.signature)) == op.signature
    assert len(op.symbols) == len(op.kinds) == len(op.signature.operands) + 1
    assert op.primitive in primitives()
    assert op.formula
    assert op.lesson.isdigit()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(5, 64), (8, 63)], r"expected W \[R, D=64\], got \(8, 63\)"),
        ([(5,), (8, 64)], r"expected h \[N, D\], got \(5,\)"),
        ([(5, 64)], r"expected 2 operands N D, R D -> N R, got 1"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Signature.parse("N D, R D -> N R").bind(shapes, names=["h", "W", "y"])


def test_a_signature_needs_an_arrow() -> None:
    with pytest.raises(ValueError, match="expected a signature"):
        Signature.parse("N D, R D")


def test_an_unknown_op_names_near_ones() -> None:
    with pytest.raises(ValueError, match=r"expected an op id, got 'mla.outt': did you mean 'mla.out'"):
        look_up("mla.outt")


def test_every_equation_of_the_report_has_an_op() -> None:
    covered = {equation for op in catalogue().values() for equation in op.equations}
    assert {str(n) for n in range(1, 26)} <= covered


def test_the_glossary_names_tensors_and_equations_that_exist() -> None:
    names = list(ModelConfig.preset("v3").tensor_shapes()) + list(
        ModelConfig.preset("moonlight").tensor_shapes()
    )
    for symbol, row in symbols().items():
        assert set(row) == {"meaning", "shape", "tensor", "equation"}, symbol
        assert 1 <= int(row["equation"]) <= 25, symbol
        assert any(name.endswith(row["tensor"].split(",")[0]) for name in names), symbol
    stems = {symbol for op in catalogue().values() for symbol in op.symbols}
    assert {"W_DKV", "W_KR", "W_DQ", "W_O", "W_UK", "W_UV", "e", "M_k"} <= set(symbols()) & stems

"""Recipes: files that check, patterns that mean something, errors that name file and key."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from minidsv3.machine import Machine, catalogue, load_precision, precision_names
from minidsv3.machine.catalogue import primitives
from minidsv3.machine.operands import Stored, backward_operands, forward_operands

FP8_PRODUCTS = {
    "mla.q_down", "mla.q_up", "mla.q_full", "mla.kv_down", "mla.k_rope_down", "mla.kv_up", "mla.cached_kv_up",
    "mla.out", "dense.gate_up", "dense.down", "experts.gate_up", "experts.down", "shared.gate_up",
    "shared.down", "gqa.q", "gqa.k", "gqa.v", "gqa.out",
}  # fmt: skip


@pytest.mark.parametrize("name", precision_names())
def test_every_pattern_of_a_recipe_fits_an_op(name: str) -> None:
    recipe = load_precision(name)
    assert recipe.title
    assert recipe.source
    for section, table in recipe.tables.items():
        if section in ("fp8", "exchange", "optimiser", "published"):
            continue
        for pattern in table:
            assert any(fnmatchcase(op, pattern) for op in catalogue()), (section, pattern)


def test_v3_multiplies_in_fp8_what_the_report_does_not_keep_higher() -> None:
    recipe = load_precision("fp8")
    products = {op.id for op in catalogue().values() if op.primitive in ("linear", "grouped_linear")}
    assert {op for op in products if recipe.product(op) == "fp8"} == FP8_PRODUCTS
    assert {op for op in products if recipe.product(op) == "bf16"} == {
        "head.logits", "head.mtp_logits", "mtp.join",
    }  # fmt: skip
    assert recipe.product("gate.logits") == "fp32"
    assert recipe.product("") == "fp8"  # an op that the catalogue does not know is an ordinary product


def test_scales_are_powers_of_two_where_the_report_says_so() -> None:
    recipe = load_precision("fp8")
    powers = {op for op in catalogue() if recipe.scale(op) == "power-of-two"}
    assert powers == {
        "mla.out", "mla.quantise_o", "mla.keep_o", "experts.quantise_u", "experts.gate_up",
        "experts.dispatch",
    }  # fmt: skip
    powers = {op for op in catalogue() if recipe.scale(op, "gradient") == "power-of-two"}
    assert powers == {"experts.combine", "experts.down"}
    assert recipe.scale("mla.out", "weight") == "float32"


def test_variants_change_one_thing() -> None:
    base = load_precision("fp8")
    for name, changed in (
        ("fp8-e5m2-gradients", ("fp8", "gradient_format", "e5m2")),
        ("fp8-block-gradients", ("fp8", "gradient", "block")),
        ("fp8-logfmt10", ("exchange", "combine", "logfmt-10")),
    ):
        section, key, value = changed
        variant = {table: dict(rows) for table, rows in load_precision(name).tables.items()}
        assert variant[section].pop(key) == value
        variant[section][key] = base.tables[section][key]
        assert variant == {table: dict(rows) for table, rows in base.tables.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 1", "mine.toml: expected a title, got 1"),
        ('title = "x"', "mine.toml: expected a source, got None"),
        (
            'title = "x"\nsource = "y"\n[produkt]',
            "mine.toml: unknown table 'produkt': did you mean 'product'",
        ),
        ('title = "x"\nsource = "y"\n[product]\n"*" = "fp9"', r"product.\*: expected one of fp8, bf16, fp32"),
        ('title = "x"\nsource = "y"\n[fp8]\nblok = 3', "fp8: unknown key 'blok': did you mean 'block'"),
        ('title = "x"\nsource = "y"\n[fp8]\nblock = 0', "fp8.block: expected a whole number >= 1, got 0"),
        ('title = "x"\nsource = "y"\n[fp8]\namax_floor = nan', "fp8.amax_floor: expected a number >= 0"),
        ('title = "x"\nsource = "y"\n[product]\n"*" = "fp8"', "expected fp8.format for products in FP8"),
        (
            'title = "x"\nsource = "y"\nbase = "fp7"',
            "expected base to be another precision, got 'fp7': did you mean 'fp8'",
        ),
        ("title = ", "mine.toml: expected TOML"),
    ],
)
def test_a_recipe_that_does_not_check(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_precision(tmp_path / "mine.toml")


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nsource = "y"\nbase = "fp8"\n[product]\n"mla.out" = "bf16"\n')
    recipe = Machine(precision=path).recipe
    assert recipe.name == "mine"
    assert recipe.product("mla.out") == "bf16"
    assert recipe.product("mla.kv_up") == "fp8"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8", "dtype": "float64"}, "expected dtype 'float32' for precision 'fp8'"),
        ({"accumulate": "hardware"}, "expected a precision with FP8 products for accumulate='hardware'"),
        ({"precision": "fp8", "accumulate": "exact"}, "expected accumulate one of"),
        ({"precision": "fp8", "block": 0}, "expected block >= 1, got 0"),
        ({"precision": "fp9"}, "expected a precision, got 'fp9': did you mean 'fp8'"),
    ],
)
def test_what_a_machine_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Machine(**options)  # type: ignore[arg-type]


def test_bytes_of_what_is_stored() -> None:
    assert Stored("bf16").nbytes((3, 5)) == 30
    assert Stored("e4m3", (1, 128)).nbytes((2, 130)) == 260 + 4 * 4
    assert Stored("e4m3", (128, 128)).nbytes((576, 7168)) == 576 * 7168 + 4 * 5 * 56  # V3's kv_a_proj
    assert Stored("e4m3", None).nbytes((7, 7)) == 49
    assert Stored("e5m6", (1, 128)).nbytes((1, 128)) == 192 + 4
    assert Stored("logfmt-10").nbytes((1, 7168)) == 7168 * 10 // 8 + 56 * 4  # 9,184, as DeepEP counts


def test_formats_of_the_three_products_of_a_linear() -> None:
    recipe, op = load_precision("fp8"), catalogue()["mla.kv_up"]
    dtypes, rows = ["float32"] * 3, primitives()["linear"].backward
    assert [str(s) for s in forward_operands(recipe, 32, op, dtypes)] == ["e4m3 1x32", "e4m3 32x32", "bf16"]
    dgrad, wgrad = (backward_operands(recipe, 32, op, row, dtypes) for row in rows)
    assert [str(s) for s in dgrad] == ["e4m3 1x32", "e4m3 32x32", "bf16"]
    assert [str(s) for s in wgrad] == ["e4m3 32x1", "e4m3 32x1", "fp32"]

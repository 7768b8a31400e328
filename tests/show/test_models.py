"""The family side by side: golden renderings, and that the table says what the configs and tensors say."""

import json
from pathlib import Path

import pytest
from pictures import WIDTHS, check_ascii, check_golden, check_svg

from minidsv3.config import ModelConfig, preset_names, published_figures
from minidsv3.show import plain_text
from minidsv3.show.models import Member, ModelTable, active_by_experts, member, models_json, nearest

GOLDEN = Path(__file__).parent / "golden"


def preset(name: str) -> Member:
    return member(name, ModelConfig.preset(name), published_figures(name))


FAMILY = ModelTable([preset(name) for name in ("v2", "v2-lite", "v3", "moonlight")])


@pytest.mark.parametrize("width", WIDTHS)
def test_golden(width: int) -> None:
    check_golden(GOLDEN, "models", FAMILY, width)
    check_ascii(FAMILY, width)


def test_svg() -> None:
    check_svg(FAMILY)


@pytest.mark.parametrize("name", ["v2", "v2-lite", "v3", "moonlight"])
def test_the_printed_figure_needs_the_models_own_number_of_experts(name: str) -> None:
    one = preset(name)
    assert nearest(one) == one.config.n_activated_experts
    assert active_by_experts(one, one.config.n_activated_experts) == pytest.approx(
        one.published["active_billion"], rel=0.022
    )


def test_eight_experts_give_v3s_37_billion() -> None:
    """Six, which is V2's number, would make it a 32B."""
    v3 = preset("v3")
    assert [round(active_by_experts(v3, k), 2) for k in (6, 8)] == [31.52, 36.63]
    assert "v3: 37B printed; 8 experts give 36.63B without embedding, 6 give 31.52B" in FAMILY.answers()


def test_every_number_of_the_columns_is_the_configs() -> None:
    for one in FAMILY.members:
        facts, c, n = one.facts, one.config, one.counts
        assert facts["parameters"] == f"{n['total']:,}"
        assert facts["routed experts"] == f"{c.n_activated_experts} of {c.n_routed_experts}"
        assert facts["query latent"] == (f"{c.q_lora_rank:,}" if c.q_lora_rank else "none")
        assert facts["with FP8 scales"] == f"{n['checkpoint']:,}"
    text = plain_text(FAMILY, 120)
    for number in ("671,026,419,200", "684,531,386,000", "91,991", "688,574,839,360", "15,960,110,208"):
        assert number in text


@pytest.mark.parametrize("name", preset_names())
def test_any_preset_has_a_column(name: str) -> None:
    table = ModelTable([preset(name)])
    assert plain_text(table, 60)
    assert name in models_json(table)["models"][0]["name"]


def test_a_model_without_experts_has_no_number_of_them() -> None:
    dense = ModelConfig.preset("nano", n_dense_layers=4, n_mtp_layers=0)
    table = ModelTable([member("dense", dense, {"active": "1B", "active_billion": 1.0})])
    assert nearest(table.members[0]) is None
    assert table.answers() == []
    assert table.members[0].facts["one MoE FFN"] == "0"
    assert plain_text(table, 60)


def test_json_and_words() -> None:
    said = json.loads(json.dumps(models_json(FAMILY)))["models"]
    assert [one["name"] for one in said] == ["v2", "v2-lite", "v3", "moonlight"]
    assert said[2]["counts"]["checkpoint"] == 684_531_386_000
    assert said[2]["experts_nearest_to_printed"] == 8
    assert said[0]["kv_bytes_per_token"] == 69_120
    words = FAMILY.describe()
    assert "DeepSeek-V2-Lite: layers (dense) 27 (1)" in words
    assert "Its router takes the best one of a group" in words

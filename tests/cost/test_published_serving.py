"""What `data/published.toml` says of serving, networks and retellings, and that none of it is tuned."""

import pytest

from minidsv3.cost.published import Figure, figures, recompute

GROUPS = ("tpot", "mtp", "local", "service", "deepep", "network", "latency", "nodes", "prefill", "decode")
GROUPS += ("paper", "fireflyer", "whatif", "notes")
MINE = [figure for figure in figures().values() if figure.group in GROUPS]

# ids whose recomputed value breaks what is printed, and the value that comes out
CONTRADICTIONS = {
    "tpot.layers": 58,
    "tpot.nvl72.experts": 256 / 72,
    "network.sf.order": 27,
    "notes.prefill.gpus": 32,
    "notes.experts": 8,
    "notes.experts.6": 32_443_635_200,
    "notes.width": 7168,
    "notes.width.7160": 670_281_218_088,
    "notes.logfmt": 116,
    "notes.softmax": 2,
    "notes.saving": 0.4384,
    "notes.six": 432e9,
    "notes.decode.slots": 2,
    "notes.routed.gpu": 638_582_784,
    "notes.routed.bytes": 638_582_784,
    "notes.days": 56.72 * 86400,
    "notes.tenth": 11.06,
    "notes.seventh": 516_096 / 70_272,
}


@pytest.mark.parametrize("figure", MINE, ids=lambda figure: figure.id)
def test_every_figure_is_what_its_entry_says(figure: Figure) -> None:
    verdict = {"derivable": "equal", "contradicts": "contradicts" if figure.calculation else "corrected"}
    assert recompute(figure).verdict == verdict.get(figure.kind, figure.kind)


def test_every_contradiction_is_listed() -> None:
    found = {f.id for f in MINE if f.kind == "contradicts" and f.calculation}
    assert found == set(CONTRADICTIONS)


@pytest.mark.parametrize(("name", "value"), CONTRADICTIONS.items())
def test_what_comes_out_instead(name: str, value: float) -> None:
    found = recompute(figures()[name])
    assert found.computed == pytest.approx(value, rel=2e-4)
    assert found.figure.why or found.figure.correct


def test_claims_in_words_say_what_is_right() -> None:
    words = [f for f in MINE if f.kind == "contradicts" and not f.calculation]
    assert {"notes.mtp", "notes.links", "notes.ibgda", "notes.tp4", "notes.refresh"} <= {f.id for f in words}
    assert all(f.says and f.correct and f.says != f.correct for f in words)


def test_only_wordings_without_a_place_have_a_tolerance_of_their_own() -> None:
    """Everything else must come out to the digits as printed: rounded, cut, up, or exact."""
    loose = {f.id: f.tolerance for f in MINE if f.style == "about"}
    assert set(loose) - set(LATENCIES) == {"tpot.nvl72.speed", "service.revenue", "service.closure"}
    assert (loose["service.revenue"], loose["service.closure"]) == (1715, 1)


LATENCIES = [
    f"deepep.bandwidth.{way}.{gpus}" for way in ("dispatch", "combine") for gpus in (8, 16, 32, 64, 128, 256)
]


@pytest.mark.parametrize("name", LATENCIES)
def test_room_of_a_bandwidth_is_that_of_its_latency(name: str) -> None:
    """Half a microsecond and half a GB/s; what is printed lies within them, nothing else left open."""
    figure, found = figures()[name], recompute(figures()[name])
    latency = figures()[name.replace("bandwidth", "latency")].si
    sent = found.inputs[0].value
    assert found.computed == pytest.approx(sent / latency)
    most = (sent / (latency - 0.5e-6) - sent / latency) / 1e9 + 0.5
    assert most <= (figure.tolerance or 0) <= most + 0.01
    assert sent / (latency + 0.5e-6) - 0.5e9 <= figure.si <= sent / (latency - 0.5e-6) + 0.5e9


def test_a_bound_of_ours_is_no_verdict_on_the_paper() -> None:
    """What V2 and V3 reach at home is measured; on which machine, and so the bound, is our guess."""
    for model in ("v2", "v3"):
        assert recompute(figures()[f"local.{model}"]).verdict == "measured"
        bound = recompute(figures()[f"local.{model}.bound"])
        assert bound.figure.ours
        assert bound.computed is not None
        assert bound.computed > figures()[f"local.{model}"].si


def test_a_dragonfly_is_not_computed_from_itself() -> None:
    """Endpoints from the printed switches, switches from the printed endpoints."""
    groups = {name: recompute(figures()[f"network.df.{name}"]) for name in ("groups", "groups.switches")}
    assert {one.computed for one in groups.values()} == {511}
    inputs = {name: figures()[f"network.df.{name}"].inputs["g"] for name in ("endpoints", "switches")}
    assert inputs == {
        "endpoints": "computed:network.df.groups.switches",
        "switches": "computed:network.df.groups",
    }


def test_styles_of_the_traps() -> None:
    """67 is cut, 13 rounded up, 4.43 printed as 4.4."""
    styles = {
        name: figures()[name].style for name in ("tpot.ib.speed", "nodes.experts", "network.sf.cost.endpoint")
    }
    assert styles == {"tpot.ib.speed": "cut", "nodes.experts": "up", "network.sf.cost.endpoint": "rounded"}
    assert recompute(figures()["tpot.ib.speed"]).text == "67.76"
    assert recompute(figures()["nodes.experts"]).computed == pytest.approx(12.8)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("tpot.ib.step", "120.96"),
        ("tpot.ib", "14.76"),
        ("tpot.nvl72", "0.82"),
        ("tpot.variant.width", "15.11"),
        ("tpot.variant.effective", "18.45"),
        ("tpot.variant.layers", "14.03"),
        ("tpot.variant.combine.fp8", "9.84"),
        ("tpot.variant.combine.logfmt", "11.22"),
        ("tpot.variant.dispatch.bf16", "19.68"),
        ("tpot.variant.dispatch.scales", "14.91"),
        ("tpot.nvl72.held", "2.91"),
        ("tpot.nvl72.held.speed", "343"),
        ("tpot.ib.latency", "0.90"),
        ("tpot.roce.latency", "1.37"),
        ("service.cost", "87,072"),
        ("service.margin", "545"),
        ("service.prefill.nodes", "95.5"),
        ("service.decode.nodes", "131.4"),
        ("deepep.wire.16", "21.5"),
        ("deepep.wire.128", "42.5"),
        ("deepep.nvlink.16", "141"),
        ("network.ft3.links", "131,072"),
        ("network.df.switches", "16,352"),
        ("network.sf.most", "30,618"),
        ("network.cluster.switches", "96"),
        ("nodes.unlimited", "5.29"),
        ("nodes.blind", "3.63"),
        ("nodes.experts.node", "3.2"),
        ("decode.service.slots", "2"),
        ("prefill.slots", "9"),
        ("notes.width.7168", "671"),
    ],
)
def test_digits_that_sources_print(name: str, printed: str) -> None:
    figure = figures()[name]
    assert printed in figure.printed
    assert figure.kind == "derivable"
    assert recompute(figure).verdict == "equal"


def test_every_calculator_of_serving_has_a_figure() -> None:
    """What these modules compute is shown somewhere, but for shapes that a figure cannot have."""
    from minidsv3.cost import claims, expert_parallel, networks, serving

    used = {f.calculation for f in figures().values()}
    apart = {"chosen_experts", "sampled_distinct_nodes", "distinct_node_chances"}  # arrays, random draws
    apart |= {"sum_errors", "TOPOLOGIES", "Network", "price_pairs", "is_prime_power", "slim_fly_ports"}
    apart |= {"two_layer_fat_tree", "multi_plane_fat_tree", "three_layer_fat_tree", "slim_fly", "dragonfly"}
    for module in (claims, expert_parallel, networks, serving):
        short = module.__name__.rpartition(".")[2]
        missing = {name for name in module.__all__ if f"{short}.{name}" not in used} - apart
        assert not missing, f"{short}: {missing}"

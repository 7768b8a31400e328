"""The check of the silicon, checked: operands that tell, files read back, verdicts that can be no."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from silicon import rules, silicon, tiles
from silicon.operands import UNITS, Case, cases, kinds_of

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))
DRAWN = cases(seed=5, tiles=1)
IDS = [case.id for case in DRAWN]


def answers(drawn: list[Case], zeros: str = rules.ZEROS[0], **changes) -> list[rules.Results]:
    """What a tensor core of that description would answer."""
    return [rules.emulated(case, zeros, **changes) for case in drawn]


def of_unit(unit: str) -> list[Case]:
    return [case for case in DRAWN if case.unit == unit]


# ---- operands ----------------------------------------------------------------------------------------------


def test_every_unit_has_every_kind_and_seeds_repeat():
    assert len(IDS) == len(set(IDS)) == sum(len(kinds_of(unit)) for unit in UNITS)
    again = cases(seed=5, tiles=1, units=("fp16", "e4m3"))
    for case in again:
        first = DRAWN[IDS.index(case.id)]
        assert np.array_equal(case.a, first.a)
        assert np.array_equal(case.b, first.b)
    other = cases(seed=6, tiles=1, units=("e4m3",))
    assert not np.array_equal(other[0].a, of_unit("e4m3")[0].a)


@pytest.mark.parametrize("case", DRAWN, ids=IDS)
def test_operands_are_codes_in_the_shape_of_instructions(case):
    unit, steps = UNITS[case.unit], case.a.shape[1]
    assert case.a.shape == (1, steps, 64, unit.depth)
    assert case.b.shape == (1, steps, 8, unit.depth)
    for codes, fmt in ((case.a, unit.a), (case.b, unit.b)):
        assert codes.dtype == fmt.dtype
        assert int(codes.max()) < 1 << fmt.bits
    assert unit.depth * np.dtype(unit.stored).itemsize == 32
    if case.c is not None:
        assert case.c.shape == (1, 64, 8)
        assert case.c.dtype == np.float32


@pytest.mark.parametrize("unit", UNITS)
def test_small_integers_are_exact_in_every_reading(unit):
    case = next(case for case in of_unit(unit) if case.name == "exact")
    x, y = UNITS[unit].a.decode(case.a[0, 0]), UNITS[unit].b.decode(case.b[0, 0])
    expected = (x.astype(int) @ y.T.astype(int) + case.c[0]).astype(np.float32)
    said = {**rules.wgmma_rules(), **rules.misreadings(unit), **rules.mma_rules(unit)}
    for rule in said.values():
        assert np.array_equal(rule(case)[0], expected)
    # and all different enough that a wrong place shows: no two rows, no two columns alike
    assert len(np.unique(expected, axis=0)) == 64
    assert len(np.unique(expected, axis=1).T) == 8


@pytest.mark.parametrize("unit", UNITS)
def test_the_operands_can_tell_every_misreading(unit):
    mine = of_unit(unit)
    right = answers(mine)
    for name, rule in rules.misreadings(unit).items():
        against = sum(
            int((~rules.same_bits(rule(case), got)).sum()) for case, got in zip(mine, right, strict=True)
        )
        assert against > 100, name


def test_the_operands_can_tell_the_conventions_where_they_differ():
    telling = {}
    for case in DRAWN:
        one = rules.score(case, rules.emulated(case, rules.ZEROS[0]), rules.wgmma_rules())
        telling[case.id] = one.telling
        assert one.hits[f"zeros {rules.ZEROS[0]}"] == one.results
    for unit in UNITS:
        assert telling[f"{unit}/zeros beside tiny c"] > 100
    for unit in ("bf16", "tf32"):
        assert telling[f"{unit}/zeros beside small terms"] > 100
        assert telling[f"{unit}/below normal"] > 100
    assert telling["e4m3/normal"] == telling["e4m3/carried"] == 0  # nothing contested in ordinary numbers


def test_fp8_through_mma_sync_is_expected_to_be_another_arithmetic():
    for unit in ("e4m3", "e5m2"):
        for case in of_unit(unit):
            halves, fused = rules.halves_in_fp16(case), rules.emulated(case, rules.ZEROS[0])
            if case.name in ("normal", "carried", "one sign", "cancelling", "which bits"):
                assert (~rules.same_bits(halves, fused)).sum() > 50, case.id
            if case.name == "normal":  # 25 bits and an FP32 add: within FP32's own error of the sum
                x, y = UNITS[unit].a.decode(case.a[0, 0]), UNITS[unit].b.decode(case.b[0, 0])
                exact = x.astype(float) @ y.T.astype(float)
                np.testing.assert_allclose(halves[0], exact, rtol=1e-6, atol=1e-5)
                assert np.abs(fused[0] - exact).max() > 1e-4


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", DRAWN[:2] + DRAWN[-30:], ids=IDS[:2] + IDS[-30:])
def test_files_are_read_back(case, tmp_path):
    tiles.write_operands(tmp_path / "in", case)
    back = tiles.read_operands(tmp_path / "in", case.name)
    assert (back.id, back.a.dtype, back.b.dtype) == (case.id, case.a.dtype, case.b.dtype)
    assert np.array_equal(back.a, case.a)
    assert np.array_equal(back.b, case.b)
    assert (back.c is None) == (case.c is None)
    if case.c is not None:
        assert rules.same_bits(back.c, case.c).all()
    results = rules.emulated(case, rules.ZEROS[0])
    tiles.write_results(tmp_path / "out", case, results)
    assert rules.same_bits(tiles.read_results(tmp_path / "out", case), results).all()


def test_a_file_byte_by_byte(tmp_path):
    a, b = np.zeros((1, 1, 64, 32), np.uint8), np.zeros((1, 1, 8, 32), np.uint8)
    a[0, 0, 1, 2], b[0, 0, 7, 31] = 0x38, 0x7E
    c = np.zeros((1, 64, 8), np.float32)
    c[0, 0, 1] = 1.0
    tiles.write_operands(tmp_path / "in", Case("x", "e5m2", a, b, c))
    data = (tmp_path / "in").read_bytes()
    assert data[:32] == b"MDSTILE1" + bytes([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]) + (
        4352
    ).to_bytes(8, "little")
    payload = data[32:]
    assert len(payload) == 64 * 32 + 8 * 32 + 64 * 8 * 4
    assert [i for i, byte in enumerate(payload) if byte] == [34, 2048 + 7 * 32 + 31, 2304 + 6, 2304 + 7]


def test_damaged_files_are_refused(tmp_path):
    case, other = of_unit("e4m3")[:2]
    path = tmp_path / "file"
    tiles.write_operands(path, case)
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:-1], whole + b"\0", b"MDSTILE2" + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="file: expected"):
            tiles.read_operands(path, "x")
    tiles.write_results(path, case, rules.emulated(case, rules.ZEROS[0]))
    with pytest.raises(ValueError, match="expected results of"):
        tiles.read_results(path, other)  # of a case without C
    with pytest.raises(ValueError, match="MDSTILE1"):
        tiles.read_operands(path, "x")


# ---- verdicts ----------------------------------------------------------------------------------------------


def test_bits_are_compared_not_values():
    one = np.array([0x0000_0000, 0x7FFF_FFFF, 0x3F80_0000], np.uint32).view(np.float32)
    other = np.array([0x8000_0000, 0x7FC0_0000, 0x3F80_0000], np.uint32).view(np.float32)
    assert rules.same_bits(one, other).tolist() == [False, False, True]
    assert rules.same_bits(one, one).all()


def verdict_on(found: list[rules.Results], mine: list[Case]) -> str:
    known = rules.wgmma_rules()
    return rules.verdict([rules.score(case, got, known) for case, got in zip(mine, found, strict=True)])


@pytest.mark.parametrize("zeros", rules.ZEROS)
def test_the_verdict_names_the_convention_that_answered(zeros):
    mine = of_unit("bf16")
    assert verdict_on(answers(mine, zeros), mine).endswith(f"telling results: zeros {zeros}")
    ordinary = [case for case in mine if case.name in ("normal", "carried")]
    assert verdict_on(answers(ordinary, zeros), ordinary).endswith("0 telling ones, nothing settled")


@pytest.mark.parametrize("unit", ["e4m3", "tf32"])
def test_a_wrong_tensor_core_is_reported(unit):
    mine = of_unit(unit)
    for name, rule in rules.misreadings(unit).items():
        said = verdict_on([rule(case) for case in mine], mine)
        assert said.startswith("no rule gives every result"), name
        assert f"{unit}/" in said


def test_one_wrong_bit_is_reported_with_its_place():
    case = of_unit("e4m3")[1]
    results = rules.emulated(case, rules.ZEROS[0])
    results.view(np.uint32)[0, 17, 3] ^= 1 << 10
    one = rules.score(case, results, rules.wgmma_rules())
    assert set(one.hits.values()) == {511}
    assert "tile 0 row 17 column 3: got" in one.first_miss


# ---- the whole script --------------------------------------------------------------------------------------


def stand_in(monkeypatch: pytest.MonkeyPatch, **changes) -> None:
    """A GPU of that description: through the program's own files, in place of the program."""

    def run(program, how, drawn, folder):
        found = []
        for case in drawn:
            tiles.write_operands(folder / "in", case)
            read = tiles.read_operands(folder / "in", case.name)
            rule = rules.mma_rules(case.unit) if how == "mma" else {}
            got = next(iter(rule.values()))(read) if rule else rules.emulated(read, rules.ZEROS[2], **changes)
            tiles.write_results(folder / "out", case, got)
            found.append(tiles.read_results(folder / "out", case))
        return found

    monkeypatch.setattr(tiles, "build", lambda folder, swapped: folder / "wgmma")
    monkeypatch.setattr(tiles, "gpu", lambda program: {"gpu": "Stand In", "capability": "9.0"})
    monkeypatch.setattr(tiles, "driver_version", lambda: "0")
    monkeypatch.setattr(tiles, "nvcc_version", lambda: "none")
    monkeypatch.setattr(tiles, "run", run)


@pytest.mark.slow
def test_a_run_reports_and_writes_what_it_saw(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    lines: list[str] = []
    path = tmp_path / "new" / "stand-in.npz"
    assert silicon.main(["--tiles", "2", "--units", "e4m3", "bf16", "--out", str(path)], lines.append) == 0
    said = "\n".join(lines)
    assert "wgmma bf16: settled by" in said
    assert "telling results: zeros dropped" in said
    assert "mma e4m3: settled by" in said
    assert "LAYOUT" not in said
    assert path.stat().st_size <= silicon.LIMIT
    about, drawn, found = silicon.load(path)
    assert (about["gpu"], about["driver"], about["tiles"]) == ("Stand In", "0", 2)
    assert about["report"][0].startswith("\nwgmma e4m3")
    assert [case.id for case in drawn] == [case.id for case in cases(0, 2, ("e4m3", "bf16"))]
    for case, wgmma in zip(drawn, found["wgmma"], strict=True):
        assert rules.same_bits(rules.emulated(case, rules.ZEROS[2]), wgmma).all()
    assert reproduced(path) == {"wgmma e4m3": True, "wgmma bf16": True, "mma e4m3": True, "mma bf16": True}


def test_a_run_on_another_arithmetic_fails(monkeypatch, tmp_path):
    stand_in(monkeypatch, fraction_bits=14)
    lines: list[str] = []
    arguments = ["--tiles", "1", "--units", "e4m3", "--out", str(tmp_path / "x.npz")]
    assert silicon.main(arguments, lines.append) == 1
    assert any(line.startswith("wgmma e4m3: no rule gives every result") for line in lines)
    assert not reproduced(tmp_path / "x.npz")["wgmma e4m3"]


def test_swapped_operands_are_called_a_fault_of_layout(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    honest = tiles.read_operands

    def swapped(path, name):
        case = honest(path, name)
        return replace(case, a=np.roll(case.a, 1, axis=2))

    monkeypatch.setattr(tiles, "read_operands", swapped)
    lines: list[str] = []
    arguments = ["--tiles", "1", "--units", "e4m3", "--out", str(tmp_path / "x.npz")]
    assert silicon.main(arguments, lines.append) == 1
    assert any(line.startswith("LAYOUT") for line in lines)


def test_all_units_fit_into_a_megabyte(monkeypatch, tmp_path):
    found = {"wgmma": answers(DRAWN), "mma": [next(iter(rules.mma_rules(c.unit).values()))(c) for c in DRAWN]}
    silicon.save(tmp_path / "x.npz", DRAWN, found, {"gpu": "none", "report": ["line"] * 400})
    assert (tmp_path / "x.npz").stat().st_size <= 1_000_000
    rows = {len(case.a[0, 0]) for case in silicon.load(tmp_path / "x.npz")[1]}
    assert rows <= {64, 48, 32}
    monkeypatch.setattr(silicon, "LIMIT", 10_000)
    with pytest.raises(ValueError, match="fit into 10000 bytes"):
        silicon.save(tmp_path / "x.npz", DRAWN[:20], {}, {})
    assert not (tmp_path / "x.npz").exists()


def test_a_dry_run_needs_nothing(tmp_path):
    lines: list[str] = []
    assert silicon.main(["--dry-run", "--tiles", "1", "--units", "e5m2"], lines.append) == 0
    assert any("against 'a bit more'" in line for line in lines)


def test_objects_in_a_vector_file_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", about=np.array({"schema": silicon.SCHEMA}, dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        silicon.load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", about=np.array('{"schema": "other"}'))
    with pytest.raises(ValueError, match=r"y\.npz: expected schema"):
        silicon.load(tmp_path / "y.npz")


# ---- what silicon said -------------------------------------------------------------------------------------


def reproduced(path: Path) -> dict[str, bool]:
    """Of each instruction and unit in a vector file: does one rule give every result?"""
    _, drawn, found = silicon.load(path)
    verdicts = {}
    for how, got in found.items():
        for unit in dict.fromkeys(case.unit for case in drawn):
            known = rules.wgmma_rules() if how == "wgmma" else rules.mma_rules(unit)
            mine = [(case, results) for case, results in zip(drawn, got, strict=True) if case.unit == unit]
            verdicts[f"{how} {unit}"] = any(
                all(rules.same_bits(rule(case), results).all() for case, results in mine)
                for rule in known.values()
            )
    return verdicts


@pytest.mark.skipif(not VECTORS, reason="no vectors/*.npz yet: this has not been run on a Hopper GPU")
@pytest.mark.parametrize("path", VECTORS or [None], ids=lambda path: path.stem if path else "none")
def test_the_emulator_gives_what_silicon_gave(path):
    assert all(reproduced(path).values()), reproduced(path)


# ---- the program -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if tiles.nvcc() is None:
        pytest.skip("no nvcc here")
    return tiles.build(tmp_path_factory.mktemp("program"))


@pytest.mark.slow
def test_the_program_reads_places_and_writes_as_python_does(program, tmp_path):
    """Its host path: codes of every format, core matrices, fragments, files; sums in double precision."""
    found = tiles.run(program, "host", DRAWN, tmp_path)
    for case, got in zip(DRAWN, found, strict=True):
        unit = UNITS[case.unit]
        with np.errstate(all="ignore"):
            x, y = unit.a.decode(case.a).astype(float), unit.b.decode(case.b).astype(float)
            products = x[:, :, :, None] * y[:, :, None]  # [1, S, 64, 8, K]
            total = products.sum(axis=(1, 4)) + (0 if case.c is None else case.c)
            size = np.abs(products).sum(axis=(1, 4)) + (0 if case.c is None else np.abs(case.c))
            assert np.array_equal(np.isnan(got), np.isnan(total)), case.id
            finite = np.isfinite(total) & (np.abs(total) < 2.0**127)
            assert (np.abs(got - total)[finite] <= (size * 2.0**-23 + 2.0**-149)[finite]).all(), case.id


@pytest.mark.slow
def test_the_program_refuses_a_damaged_file(program, tmp_path):
    tiles.write_operands(tmp_path / "in", DRAWN[0])
    whole = (tmp_path / "in").read_bytes()
    for damaged in (whole[:-1], whole + b"\0", b"X" + whole[1:], whole[:8] + b"\x63" + whole[9:], whole[:30]):
        (tmp_path / "in").write_bytes(damaged)
        done = subprocess.run(
            [program, "host", tmp_path / "in", tmp_path / "out"], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "expected" in done.stderr


@pytest.mark.slow
def test_the_machine_code_has_the_instructions_meant(program):
    cuobjdump = shutil.which("cuobjdump")
    if cuobjdump is None:
        pytest.skip("no cuobjdump here")
    dumped = subprocess.run(
        [cuobjdump, "--dump-sass", program], capture_output=True, text=True, check=True
    ).stdout
    code = dict(part.split("\n", 1) for part in dumped.split("Function : ")[1:])
    wgmma = {name: text for name, text in code.items() if "wgmma_tiles" in name}
    assert sum("QGMMA.64x8x32.F32.E4M3.E4M3" in text for text in wgmma.values()) == 1
    assert sum("QGMMA" in text for text in wgmma.values()) == 4
    assert sum("HGMMA" in text for text in wgmma.values()) == 3
    # FP8 through mma.sync is what rules.halves_in_fp16 says: unpacked to FP16, two products, an FP32 addition
    mma = [text for name, text in code.items() if "mma_tiles" in name and "F2FP.F16.E4M3.UNPACK_B" in text]
    assert len(mma) == 3
    assert all("HMMA.16816.F32" in text and "FADD" in text and "QMMA" not in text for text in mma)


@pytest.mark.slow
def test_the_gpu_agrees(program, tmp_path):
    try:
        tiles.gpu(program)
    except RuntimeError as error:
        pytest.skip(f"no Hopper GPU here: {error}")
    assert silicon.main(["--tiles", "4", "--out", str(tmp_path / "here.npz")]) == 0

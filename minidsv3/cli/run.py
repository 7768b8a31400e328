"""`minidsv3 run`: text in, training, text out, the bill.

Reads text, learns a tokenizer, trains, evaluates on text held out, writes a continuation and fills a hole,
and prices a training step and a decode step. Everything is left in a run folder, from which `--resume` goes
on after Ctrl-C or a kill, bit for bit. The number of steps is fixed by the preset, so a run repeats bit for
bit too.

With `--extend` the context of a finished run, or of any model folder, grows by YaRN and training in phases.

Does: options and the order of the stages. Does not: the stages (`run_preparing`, `run_training`,
`run_results`, `run_comparing`, `run_extending`).

Next: minidsv3.cli.terminal
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from minidsv3.cli import EnvironmentProblem
from minidsv3.config import preset_names

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Read text, train a small DeepSeek-V3 on it, evaluate, write text, print the bill."
EXAMPLES = [
    "minidsv3 run                          # this Python's standard library, about two minutes",
    "minidsv3 run --text ~/notes --minutes 5",
    "minidsv3 run --resume runs/nano-0     # after Ctrl-C or a kill",
    "minidsv3 run --steps 20 --set n_mtp_layers=2 --json",
    "minidsv3 run --precision fp8          # V3's recipe: FP8 products in tiles, BF16 between them",
    "minidsv3 run --compare bf16,fp8       # the same run in both; loss curves side by side",
    "minidsv3 run --preset needle          # learns to find needles in haystacks, which it makes itself",
    "minidsv3 run --extend runs/needle-0   # YaRN, and two phases of training at growing length",
]
COMPARISON = "comparison.json"  # in the folder that holds the runs of a comparison


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--text", nargs="+", metavar="PATH", default=[], help="files or folders to learn from"
    )
    parser.add_argument(
        "--preset", metavar="NAME", help=f"model and plan: {', '.join(preset_names())} (nano)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, document order and batches (0)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--precision", metavar="NAME", help="fp32, bf16, fp8, a variant such as fp8-per-tensor, a .toml file"
    )
    how.add_argument(
        "--compare", metavar="A,B", help="the same run in each precision; losses relative to the first"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="train N steps, not the preset's number")
    length.add_argument(
        "--minutes", type=float, metavar="N", help="train about N minutes: a few steps are timed first"
    )
    parser.add_argument(
        "--set", nargs="+", metavar="FIELD=VALUE", default=[], action="extend", help="change a field"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (runs/PRESET-0, -1, …)")
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    parser.add_argument(
        "--extend",
        type=Path,
        metavar="RUN",
        help="extend a finished run's context (or a model folder's, with --text) by the preset's recipe; "
        "here --steps counts each phase, --set changes factor, phases, learning_rate, …",
    )
    parser.add_argument("--hardware", default="h800", help="a name or a file to price on (h800)")
    parser.add_argument("--json", action="store_true", help="print report.json and the folder, not text")


def main(args: argparse.Namespace) -> int:
    """Run; 130 after Ctrl-C, with the state saved."""
    from minidsv3.cli.run_preparing import begin, reopen
    from minidsv3.cli.run_results import finish
    from minidsv3.cli.run_training import summary, train
    from minidsv3.cli.terminal import talk
    from minidsv3.hardware import load_hardware

    _check_resume(args)
    console, hardware = talk(), load_hardware(args.hardware)
    if args.extend or _extension(args.resume):
        return _extend(args, console)
    if args.compare is not None or (args.resume and (args.resume / COMPARISON).is_file()):
        return _compare(args, console, hardware)
    out: Path | None = args.resume
    try:
        if args.resume:
            run, trainer = reopen(args.resume, console)
        else:
            run, trainer = begin(_settings(args), console)
            out = run.path
            console.print(f"run folder: {out}")
        if not train(run, trainer, console):
            return _interrupted(run.path)
        console.print(summary(run))
        report, bills = finish(run, trainer, hardware, console)
    except KeyboardInterrupt:
        return _interrupted(out)
    except OSError as error:
        hint = _how_to_go_on(out) if out else ""
        raise EnvironmentProblem(f"could not write: {error}{hint}") from error
    _print_results(args, run, report, bills)
    return 0


def _check_resume(args: argparse.Namespace) -> None:
    """A resumed run has its plan already."""
    given = [
        f"--{name}"
        for name in ("text", "preset", "seed", "steps", "minutes", "set", "precision", "compare", "extend")
        if getattr(args, name) not in (None, [])
    ]
    if args.resume and given:
        raise ValueError(
            f"expected --resume alone (the plan is in {args.resume / 'run.json'}), got {given[0]} too"
        )


def _settings(args: argparse.Namespace) -> Any:
    from minidsv3.cli.run_preparing import Settings
    from minidsv3.training import free_run_path

    preset, seed = args.preset or "nano", args.seed or 0
    if seed < 0:
        raise ValueError(f"expected --seed >= 0, got {seed}")
    return Settings(
        out=args.out or free_run_path("runs", preset.replace("/", "-")),
        text=args.text,
        preset=preset,
        seed=seed,
        steps=args.steps,
        minutes=args.minutes,
        changes=tuple(args.set) + ((f"precision={args.precision}",) if args.precision else ()),
    )


def _compare(args: argparse.Namespace, console: Any, hardware: Any) -> int:
    """The same run in several precisions; 130 after Ctrl-C, with everything so far saved."""
    from minidsv3.cli.run_comparing import begin_comparison, finish_comparison, reopen_comparison
    from minidsv3.cli.terminal import print_json, results
    from minidsv3.show.comparison import comparison_page
    from minidsv3.training import free_run_path

    if args.resume:
        comparison = reopen_comparison(args.resume)
    else:
        settings = _settings(args)
        name = settings.preset.replace("/", "-")
        out = args.out or free_run_path("runs", f"{name}-compare")
        comparison = begin_comparison(out, settings, args.compare.split(","))
    console.print(f"comparison: {comparison.path}")
    try:
        if not comparison.train(hardware, console):
            return _interrupted(comparison.path)
    except KeyboardInterrupt:
        return _interrupted(comparison.path)
    table, curves = finish_comparison(comparison)
    if args.json:
        print_json(table | {"folder": str(comparison.path)})
    else:
        results().print(comparison_page(table, curves.losses, curves.relative))
    return 0


def _extension(path: Path | None) -> Path | None:
    """The extended run that `--resume` means, if it means one."""
    from minidsv3.cli.run_extending import the_extension

    return the_extension(path) if path else None


def _extend(args: argparse.Namespace, console: Any) -> int:
    """Phase after phase, then the measuring; 130 after Ctrl-C, with everything so far saved."""
    from minidsv3.cli.run_extended import finish_extension
    from minidsv3.cli.run_extending import begin_extension, reopen_extension

    out = _extension(args.resume)
    try:
        if out:
            extension = reopen_extension(out)
            console.print(f"resuming {out}")
        else:
            settings = _extend_settings(args)
            out = settings.out
            extension = begin_extension(settings, console)
            console.print(f"run folder: {out}")
        if not extension.train(console):
            return _interrupted(out)
        report = finish_extension(extension, console)
    except KeyboardInterrupt:
        return _interrupted(out)
    except OSError as error:
        hint = _how_to_go_on(out) if out and _can_go_on(out) else ""
        raise EnvironmentProblem(f"could not write: {error}{hint}") from error
    _print_extended(args, extension, report)
    return 0


def _extend_settings(args: argparse.Namespace) -> Any:
    from minidsv3.cli.run_extending import ExtendSettings
    from minidsv3.training import free_run_path

    for name in ("minutes", "precision", "compare"):
        if getattr(args, name) is not None:
            raise ValueError(f"expected --extend without --{name}, got both")
    if (args.seed or 0) < 0:
        raise ValueError(f"expected --seed >= 0, got {args.seed}")
    base = args.extend.resolve()
    name = base.parent.name if base.name == "model" else base.name
    return ExtendSettings(
        base=args.extend,
        out=args.out or free_run_path("runs", f"{name}-extended"),
        text=tuple(args.text),
        preset=args.preset,
        seed=args.seed,
        steps=args.steps,
        changes=tuple(args.set),
    )


def _print_extended(args: argparse.Namespace, extension: Any, report: dict[str, Any]) -> None:
    from minidsv3.cli.terminal import print_json, results, word
    from minidsv3.show.context import context_page

    path = extension.run.path
    if args.json:
        print_json(report | {"folder": str(path)})
        return
    console = results()
    console.print(context_page(report, extension.run.metrics()))
    console.print(f"\nleft in {path}: model/, phase-1/ …, report.txt, report.svg, report.json, metrics.jsonl")
    if report["needle"]:
        console.print(f"next: minidsv3 show needle --model {word(path)}")


def _how_to_go_on(out: Path) -> str:
    from minidsv3.cli.terminal import word

    return f"; go on with: minidsv3 run --resume {word(out)}"


def _interrupted(out: Path | None) -> int:
    hint = _how_to_go_on(out) if out and _can_go_on(out) else ""
    print(f"interrupted{hint}", file=sys.stderr)
    return 130


def _can_go_on(out: Path) -> bool:
    return any((out / name).is_file() for name in ("run.json", COMPARISON))


def _print_results(args: argparse.Namespace, run: Any, report: dict[str, Any], bills: list[Any]) -> None:
    from minidsv3.cli.terminal import print_json, results, word
    from minidsv3.show.report import report_page

    if args.json:
        print_json(report | {"folder": str(run.path)})
        return
    console = results()
    console.print(report_page(report, run.metrics(), bills))
    console.print(
        f"\nleft in {run.path}: model/, report.txt, report.svg, report.json, metrics.jsonl, tokenizer.json"
    )
    then = f'predict "def main(" --model {word(run.path)}'
    if report.get("needle"):
        then = f"run --extend {word(run.path)}"
    console.print(f"next: minidsv3 {then}")

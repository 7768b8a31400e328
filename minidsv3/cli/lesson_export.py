"""`minidsv3 lesson export`: a lesson as notebook, page, Markdown, text, or its pictures.

The lesson runs once; each format is written whole under a temporary name and renamed. Of one lesson's
pictures `--to svg` makes a folder.

Does: file names, writing, saying what was written. Does not: make the formats (`minidsv3.learn.export`).

    >>> formats("html,ipynb")
    ['html', 'ipynb']
    >>> formats("all")
    ['ipynb', 'html', 'md', 'txt', 'svg']

Next: minidsv3.cli.init
"""

import argparse
import sys
from pathlib import Path

from minidsv3.checkpoint import writing
from minidsv3.config import near
from minidsv3.learn.exercises import Lesson, find_lesson, lessons
from minidsv3.learn.export import FORMATS, LessonPage, export, lesson_page
from minidsv3.learn.export.pictures import svgs
from minidsv3.show.numbers import counted

__all__ = ["export_lessons", "formats"]


def formats(text: str) -> list[str]:
    """Format names with commas between, or "all"."""
    names = list(FORMATS) if text == "all" else [word.strip() for word in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"expected --to a format, got {name!r}: {near(name, [*FORMATS, 'all'])}")
    return list(dict.fromkeys(names))


def export_lessons(args: argparse.Namespace) -> int:
    """Export one lesson, or with --all every lesson.

    args: lesson, all, to (formats), out (a file for one format, "-" for stdout; a folder otherwise).
    """
    names = formats(args.to)
    if args.lesson is None and not args.all:
        raise ValueError("expected which lesson to export: minidsv3 lesson export ID, or --all")
    chosen = list(lessons()) if args.lesson is None else [find_lesson(args.lesson)]
    single = len(chosen) == len(names) == 1 and names[0] != "svg"
    if str(args.out) == "-" and not single:
        raise ValueError("expected one lesson and one format other than svg for --out -")
    _check_place(args.out, single)
    for lesson in chosen:
        page = lesson_page(lesson)
        for name in names:
            if name == "svg":
                _write_pictures(lesson, page, args.out or Path())
            else:
                _write(page, name, args.out, f"{lesson.name}.{name}")
    return 0


def _check_place(out: Path | None, single: bool) -> None:
    """Refuse what cannot be written to before a lesson runs; make the folder for several files."""
    if out is None or str(out) == "-" or out.is_dir():
        return
    if single and not out.parent.is_dir():
        raise ValueError(f"expected --out in a folder that exists, got {out}")
    if not single and out.exists():
        raise ValueError(f"expected --out a folder for several files, got the file {out}")
    if not single:
        out.mkdir(parents=True)


def _write(page: LessonPage, form: str, out: Path | None, name: str) -> None:
    """Write one file: at `out`, in the folder `out`, or to stdout."""
    text = export(page, form)
    if str(out) == "-":
        sys.stdout.write(text)
        return
    path = Path(name) if out is None else out / name if out.is_dir() else out
    with writing(path) as file:
        file.write(text.encode())
    print(f"left in {path}")


def _write_pictures(lesson: Lesson, page: LessonPage, out: Path) -> None:
    files = svgs(page)
    if not files:
        print(f"lesson {lesson.id} shows no pictures", file=sys.stderr)
        return
    folder = out / f"{lesson.name}_pictures"
    folder.mkdir(exist_ok=True)
    for name, svg in files.items():
        with writing(folder / name) as file:
            file.write(svg.encode())
    print(f"left in {folder}: {counted(len(files), 'picture')}")

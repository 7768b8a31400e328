"""`minidsv3 class new`: the folders of a class, and what to do with them.

With --json one object, `minidsv3.class_new/1`: the three folders, and the exercises with their points and
weights; not the hidden seeds, which stay in the key.

Does: options, words. Does not: write (`minidsv3.learn.classroom.template`).

Next: minidsv3.cli.class_grade
"""

import argparse
from pathlib import Path

__all__ = ["EXAMPLES", "SUMMARY", "arguments", "main"]

SUMMARY = "Write the folders of a class: stubs for the students, a key with hidden numbers for you."
EXAMPLES = [
    "minidsv3 class new autumn --exercises 00,05",
    "minidsv3 class new autumn                     # every exercise there is",
]
SCHEMA = "minidsv3.class_new/1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--exercises", metavar="00,05", help="numbers, with commas between them (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not text")


def main(args: argparse.Namespace) -> int:
    """Write them and say what comes next."""
    from minidsv3.cli.terminal import print_json, word
    from minidsv3.learn.classroom import NewClass, new_class

    begun: NewClass = new_class(args.folder, _named(args.exercises))
    exercises = [
        {"exercise": one.exercise, "title": one.lesson.title, "out_of": one.out_of, "weight": one.weight}
        for one in begun.key.exercises
    ]
    if args.json:
        folders = {name: str(getattr(begun, name)) for name in ("student", "instructor", "submissions")}
        print_json({"schema": SCHEMA} | folders | {"exercises": exercises})
        return 0
    for one in exercises:
        print(f"exercise {one['exercise']}, {one['title']}: {one['out_of']:g} points")
    print(f"\nhand out   {word(begun.student)}: stubs and a README, no solutions, no hidden numbers")
    print(
        f"keep       {word(begun.instructor)}: key.toml (seeds, sizes, points), GRADING.md (read this first)"
    )
    print(f"collect    {word(begun.submissions)}: put one folder or one .py file a student in here, then\n")
    report = word(begun.instructor / "grades.json")
    print(f"  minidsv3 class grade {word(begun.submissions)} --report {report}")
    print(f"  minidsv3 class report {report}")
    return 0


def _named(exercises: str | None) -> list[str]:
    """The exercises of a list with commas; all if there is none."""
    from minidsv3.learn.exercises import lessons

    if exercises is None:
        return [lesson.id for lesson in lessons()]
    found = [name.strip() for name in exercises.split(",") if name.strip()]
    if not found:
        raise ValueError("expected exercises, such as 00,05, got none")
    return found

"""The classroom: lessons stepped through cell by cell, exercises that answer with a counterexample.

A lesson is a folder: `lesson.py` in percent format, which also runs as plain Python, an `exercise.py` to fill
in, and beside it what the checker needs. `percent` reads the cells, `player` runs them forward and back on
top of `snapshot`; `exercises` finds the folders; `sandbox` runs a student's code in a process of its own,
`properties` looks there for the smallest input that shows what is wrong, `checker` says it in one panel.

Does: results as plain data with a plain-text form. Does not: read keys, colour (`minidsv3.cli`), or stop a
program that means harm: the sandbox guards against accidents and is no security boundary.

    >>> [lesson.id for lesson in lessons()][:1]
    ['00']

Next: minidsv3.learn.percent
"""

from minidsv3.learn.exercises import Lesson, find_lesson, lessons, lessons_folder

__all__ = ["Lesson", "find_lesson", "lessons", "lessons_folder"]

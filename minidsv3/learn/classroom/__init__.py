"""A class: exercises handed out, forty submissions graded overnight, a report for Monday morning.

    begun = new_class(Path("autumn"), ["00", "05"])            # student/, instructor/, submissions/
    table = grade_class(plan(Path("autumn/submissions")))      # every property of every exercise, for points
    summary(table)                                             # who got how far, and what went wrong most

`key` says what is hidden and what it is worth, `template` writes the folders; `submission` reads what was
handed in, `grading` grades one, `journal` remembers, `worker` and `batch` do many side by side; `grades` are
the table as JSON, CSV and JUnit, `run` puts it together, `summary` sums up.

The checks are those of the instructor's installation, never any in a submission. The sandbox under them
guards against accidents and is no security boundary: grade on a machine that you can do without.

Does: all of it without printing. Does not: send grades anywhere, look for copies, know deadlines.

    >>> summary.__module__, grade_class.__module__
    ('minidsv3.learn.classroom.summary', 'minidsv3.learn.classroom.run')

Next: minidsv3.learn.classroom.key
"""

from minidsv3.learn.classroom.grades import csv_text, json_text, junit_text, read_grades
from minidsv3.learn.classroom.key import Key, read_key
from minidsv3.learn.classroom.run import Plan, grade_class, plan
from minidsv3.learn.classroom.summary import marks_csv, summary
from minidsv3.learn.classroom.template import NewClass, new_class

__all__ = [
    "Key",
    "NewClass",
    "Plan",
    "csv_text",
    "grade_class",
    "json_text",
    "junit_text",
    "marks_csv",
    "new_class",
    "plan",
    "read_grades",
    "read_key",
    "summary",
]

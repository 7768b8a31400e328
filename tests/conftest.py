"""Hypothesis for the whole suite: no deadline, since a busy machine is not an error."""

import gc

from hypothesis import settings

settings.register_profile("minidsv3", deadline=None)
settings.load_profile("minidsv3")


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()

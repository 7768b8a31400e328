"""Hypothesis for the whole suite: no deadline, since a busy machine is not an error."""

from hypothesis import settings

settings.register_profile("minidsv3", deadline=None)
settings.load_profile("minidsv3")

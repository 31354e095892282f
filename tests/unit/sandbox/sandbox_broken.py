"""A module of jobs that can't even be imported."""

raise RuntimeError("this module is broken")

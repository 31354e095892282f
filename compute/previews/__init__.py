"""Pictures of models for people, by three.js in a sandboxed Chromium."""

from cloudbaker.compute.previews.previewer import (
    IDENTICAL_DB,
    Camera,
    Comparison,
    Moment,
    Picture,
    Previewer,
    available,
    picture_difference,
)

__all__ = [
    "IDENTICAL_DB",
    "Camera",
    "Comparison",
    "Moment",
    "Picture",
    "Previewer",
    "available",
    "picture_difference",
]

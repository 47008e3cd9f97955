"""The second model of a run: the network that a method's student learns from. Imports no torch."""

from __future__ import annotations

from dinodiet.config.signature import Node


def teacher_of(method: Node) -> Node | None:
    """Return the `model` node of a method's teacher; None: it has no teacher that is a model of its own."""
    teacher = method.get("teacher")
    model = teacher.get("model") if isinstance(teacher, dict) else None
    return model if isinstance(model, dict) and "_target_" in model else None


def with_teacher(method: Node, model: Node | None) -> Node:
    """Return the node of a method with another model as its teacher; None leaves it as it is."""
    return method if model is None else {**method, "teacher": {**method["teacher"], "model": model}}

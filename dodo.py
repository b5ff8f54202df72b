"""The tasks of this project, for doit: ``doit list`` names them, ``doit help`` says how to run them."""

from kiln.tasks import DOIT_CONFIG, task_kiln

__all__ = ["DOIT_CONFIG", "task_kiln"]

"""What is asked of a run: pydantic models, frozen, unknown keys refused. Imports no torch."""

from tunesmith.recipe.data import ColumnMap, DataPart
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.method import FullMethod, LoraMethod, MethodPart
from tunesmith.recipe.model import ModelPart
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.share import Share
from tunesmith.recipe.strategy import StrategyPart
from tunesmith.recipe.target import TargetPart
from tunesmith.recipe.task import TaskPart
from tunesmith.recipe.tracking import TrackingPart
from tunesmith.recipe.training import TrainingPart

__all__ = [
    "ColumnMap",
    "DataPart",
    "EvaluationPart",
    "FullMethod",
    "LoraMethod",
    "MethodPart",
    "ModelPart",
    "Recipe",
    "Share",
    "StrategyPart",
    "TargetPart",
    "TaskPart",
    "TrackingPart",
    "TrainingPart",
]

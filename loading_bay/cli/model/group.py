"""The group of commands for the model."""

from loading_bay.cli.commands import Commands

from .evaluate import evaluate_command
from .host import cleanup, deploy, status
from .retrain import retrain
from .stage import stage
from .train import train

model = Commands(
    "model",
    help="Train a model, evaluate it, and host it on a SageMaker endpoint.",
    commands=[stage, train, evaluate_command, retrain, deploy, status, cleanup],
)

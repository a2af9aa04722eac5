"""The command line: python -m training."""

from stack.commands import CommandLine

from .commands.evaluate import evaluate_command
from .commands.history import history
from .commands.host import cleanup, deploy, status
from .commands.retrain import retrain
from .commands.stage import stage
from .commands.train import train
from .commands.transform import transform_command

main = CommandLine(
    "training",
    help="From labelled photos to a monitored SageMaker endpoint, and the same on this machine.",
    commands=[stage, train, evaluate_command, retrain, history, deploy, status, cleanup, transform_command],
)

if __name__ == "__main__":
    main(prog_name="python -m training")

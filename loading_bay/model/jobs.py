"""Training jobs on SageMaker, for both recipes, through the SageMaker SDK.

The SDK takes more than a second to import, and its import fails without a region, so it is imported where a job is
made. Its telemetry is off.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loading_bay.stack.errors import UserError, explained
from loading_bay.stack.hints import make
from loading_bay.stack.template import ROOT

from .dataset import CIFAR_SIDE
from .staging import DETECTOR_FOLDER, OUTLIER_FOLDERS, SEVERAL_FOLDERS, Manifest

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import DescribeTrainingJobResponseTypeDef
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.training.configs import InputData, SourceCode
    from sagemaker.train import ModelTrainer

IMAGE_CONTENT_TYPE = "application/x-image"
PYTORCH_VERSION = "2.10"
PYTORCH_PYTHON = "py313"
POLL_SECONDS = 15
FINISHED = ("Completed", "Failed", "Stopped")
# SageMaker reads these metrics from the lines that container/train.py prints.
METRICS = {name: rf"{name}=([0-9.]+)" for name in ("train_loss", "validation_loss", "validation_accuracy", "box_loss")}
CODE_IGNORED = ["__pycache__", "model", ".DS_Store"]

TELEMETRY_OFF = {
    "SchemaVersion": "1.0",
    "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
}

Report = Callable[[str], None]


@dataclass(frozen=True)
class JobSettings:
    """The settings of a job that both recipes need; durations in seconds."""

    bucket: str
    prefix: str
    role: str
    region: str | None
    instance_type: str
    spot: bool
    max_seconds: int
    volume_gigabytes: int = 30


def builtin_hyperparameters(manifest: Manifest, epochs: int, batch: int) -> dict[str, str]:
    """Return the built-in algorithm's settings for the staged images.

    The default is a network of 152 layers for 224×224. For images as small as CIFAR-100 the documentation names depths
    of 20 to 110, for larger ones 18 and more (https://docs.aws.amazon.com/sagemaker/latest/dg/IC-Hyperparameter.html).

    Raises:
        UserError: there are fewer training photos than one batch holds.
    """
    photos = manifest.counts["train"]
    if photos < batch:
        raise UserError(f"{photos} training photos do not fill one batch of {batch}: give a smaller --batch")
    steps = ",".join(str(round(epochs * part)) for part in (0.5, 0.75))
    side = manifest.smallest_side
    return {
        "num_layers": "20" if side <= CIFAR_SIDE else "18",
        "image_shape": f"3,{side},{side}",
        "num_classes": str(len(manifest.class_names)),
        "num_training_samples": str(photos),
        "mini_batch_size": str(batch),
        "epochs": str(epochs),
        "learning_rate": "0.05",
        "lr_scheduler_step": steps,
        "lr_scheduler_factor": "0.1",
        "optimizer": "sgd",
        "momentum": "0.9",
        "weight_decay": "0.0005",
        "augmentation_type": "crop_color_transform",
        "use_pretrained_model": "0",
    }


def builtin_trainer(settings: JobSettings, manifest: Manifest, epochs: int, batch: int) -> "ModelTrainer":
    """Prepare a job of the built-in image-classification algorithm: four channels of images and lists."""
    session = sdk_session(settings)
    from sagemaker.core import image_uris  # noqa: PLC0415 - see the module's first lines

    return trainer(
        settings,
        session,
        name="loading-bay-builtin",
        image=image_uris.retrieve("image-classification", session.boto_region_name),
        hyperparameters=builtin_hyperparameters(manifest, epochs, batch),
        channels=[
            channel(settings, "train", "train/"),
            channel(settings, "validation", "validation/"),
            channel(settings, "train_lst", "train.lst"),
            channel(settings, "validation_lst", "validation.lst"),
        ],
    )


def bundled_trainer(settings: JobSettings, manifest: Manifest, options: dict[str, str]) -> "ModelTrainer":
    """Prepare a script-mode job that runs container/train.py in the PyTorch image that SageMaker provides."""
    session = sdk_session(settings)
    from sagemaker.core import image_uris  # noqa: PLC0415
    from sagemaker.core.shapes import MetricDefinition  # noqa: PLC0415
    from sagemaker.core.training.configs import SourceCode  # noqa: PLC0415

    channels = [channel(settings, "train", "train/"), channel(settings, "validation", "validation/")]
    # An empty channel fails the job.
    for split in ("train", "validation"):
        if manifest.counts.get(OUTLIER_FOLDERS[split]):
            channels.append(channel(settings, f"outliers_{split}", f"{OUTLIER_FOLDERS[split]}/"))
    if manifest.counts.get(SEVERAL_FOLDERS["train"]):
        channels.append(channel(settings, "several_train", f"{SEVERAL_FOLDERS['train']}/"))
    channels.append(channel(settings, "detector", f"{DETECTOR_FOLDER}/"))
    job = trainer(
        settings,
        session,
        name="loading-bay-bundled",
        image=image_uris.retrieve(
            "pytorch",
            session.boto_region_name,
            version=PYTORCH_VERSION,
            py_version=PYTORCH_PYTHON,
            instance_type=settings.instance_type,
            image_scope="training",
        ),
        hyperparameters={
            "classes": ",".join(manifest.class_names),
            "data_digest": manifest.digest,
            **options,
        },
        channels=channels,
        source_code=SourceCode(
            source_dir=str(ROOT / "training"),
            requirements="container/requirements-train.txt",
            command="python -m container.train",
            ignore_patterns=CODE_IGNORED,
        ),
    )
    return job.with_metric_definitions([MetricDefinition(name=name, regex=regex) for name, regex in METRICS.items()])


def sdk_session(settings: JobSettings) -> "Session":
    """Open an SDK session on the given bucket; otherwise the SDK would create another one.

    Raises:
        UserError: the SDK is not installed, or credentials or region are missing.
    """
    os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"  # the check needs an administrator's IAM permissions
    logging.getLogger("sagemaker").setLevel(logging.WARNING)
    try:
        import boto3  # noqa: PLC0415
        from sagemaker.core.helper.session_helper import Session  # noqa: PLC0415
    except ImportError as error:
        raise UserError(f"the SageMaker SDK is missing ({error}): install it with {make('setup-training')}") from error
    with explained("open a SageMaker session"):
        boto_session = boto3.Session(region_name=settings.region)
        if boto_session.region_name is None:
            raise UserError("no AWS region: give --region or set AWS_DEFAULT_REGION")
        if boto_session.get_credentials() is None:
            raise UserError("no AWS credentials: run aws configure, or set AWS_PROFILE")
        return Session(boto_session, default_bucket=settings.bucket, sagemaker_config=TELEMETRY_OFF)


def channel(settings: JobSettings, name: str, path: str) -> "InputData":
    """Return one input channel: the objects at a path below the staged data set in S3."""
    from sagemaker.core.shapes import S3DataSource  # noqa: PLC0415
    from sagemaker.core.training.configs import InputData  # noqa: PLC0415

    return InputData(
        channel_name=name,
        data_source=S3DataSource(
            s3_data_type="S3Prefix",
            s3_uri=f"s3://{settings.bucket}/{settings.prefix}/{path}",
            s3_data_distribution_type="FullyReplicated",
        ),
        content_type=IMAGE_CONTENT_TYPE,
    )


def trainer(
    settings: JobSettings,
    session: "Session",
    *,
    name: str,
    image: str,
    hyperparameters: dict[str, str],
    channels: "list[InputData]",
    source_code: "SourceCode | None" = None,
) -> "ModelTrainer":
    """Assemble a job; with spot instances it may also wait for capacity, for as long as it may run."""
    from sagemaker.core.training.configs import Compute, OutputDataConfig, StoppingCondition  # noqa: PLC0415
    from sagemaker.train import ModelTrainer  # noqa: PLC0415

    return ModelTrainer(
        sagemaker_session=session,
        role=settings.role,
        base_job_name=name,
        training_image=image,
        hyperparameters=hyperparameters,
        input_data_config=channels,
        source_code=source_code,
        compute=Compute(
            instance_type=settings.instance_type,
            instance_count=1,
            volume_size_in_gb=settings.volume_gigabytes,
            enable_managed_spot_training=settings.spot,
        ),
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=settings.max_seconds,
            max_wait_time_in_seconds=2 * settings.max_seconds if settings.spot else None,
        ),
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{settings.bucket}/loading-bay/jobs"),
    )


def start(job: "ModelTrainer") -> str:
    """Start a prepared job, and return its name.

    Raises:
        UserError: AWS refuses it: role, quota, permission, bucket.
    """
    with explained("start the training job"):
        job.train(wait=False, logs=False)
    started = job._latest_training_job
    return str(started.training_job_name)


@contextmanager
def interruptible(name: str) -> Iterator[None]:
    """Say on Ctrl-C that the job goes on, and how to stop it.

    Raises:
        UserError: the user stopped waiting.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise UserError(
            f"stopped waiting; job {name} goes on and costs money: "
            f"aws sagemaker stop-training-job --training-job-name {name}"
        ) from error


def wait_for(
    sagemaker: "SageMakerClient", name: str, report: Report, poll_seconds: float = POLL_SECONDS
) -> "DescribeTrainingJobResponseTypeDef":
    """Report a job's phases and metrics until it ends, and return its last description.

    Raises:
        UserError: the job failed or was stopped; the message is the reason that AWS gives.
    """
    said: set[str] = set()
    with explained(f"follow job {name}"), interruptible(name):
        while True:
            job = sagemaker.describe_training_job(TrainingJobName=name)
            for line in _news(job):
                if line not in said:
                    said.add(line)
                    report(line)
            if job["TrainingJobStatus"] in FINISHED:
                break
            time.sleep(poll_seconds)
    if job["TrainingJobStatus"] != "Completed":
        reason = " ".join(job.get("FailureReason", "no reason given").split())
        raise UserError(
            f"job {name} ended as {job['TrainingJobStatus']}: {reason}; its log is in /aws/sagemaker/TrainingJobs"
        )
    return job


def _news(job: "DescribeTrainingJobResponseTypeDef") -> Iterator[str]:
    for step in job.get("SecondaryStatusTransitions", []):
        message = step.get("StatusMessage", "")
        yield f"{step['Status']}: {message}" if message else step["Status"]
    metrics = job.get("FinalMetricDataList", [])
    if metrics:
        yield ", ".join(f"{metric['MetricName']} {metric['Value']:.4f}" for metric in metrics)

"""What is hosted: the image and model of a training job, or a local ONNX file packed and put into S3."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from loading_bay.model.predictors import load_model
from loading_bay.stack.errors import UserError, explained
from training.container.settings import MODEL_FILE

from .hosting import Clients


@dataclass(frozen=True)
class Artifact:
    """A model in S3, the image that serves it, how many classes it knows, and the side of its pictures in pixels."""

    image: str
    uri: str
    classes: int
    side: int | None


def from_job(clients: Clients, job: str, image: str | None) -> Artifact:
    """Take the model of a finished training job.

    The built-in algorithm's image serves what it trains; for a job of the bundled recipe our own image must
    be given.

    Raises:
        UserError: there is no such job, it has no model, or the image is missing.
    """
    with explained(f"look at training job {job}"):
        description = clients.sagemaker.describe_training_job(TrainingJobName=job)
    status, settings = description["TrainingJobStatus"], description.get("HyperParameters", {})
    if status != "Completed":
        raise UserError(f"training job {job} is {status}: only a completed one has a model")
    builtin = "num_classes" in settings
    if not builtin and not image:
        raise UserError(f"{job} is of the bundled recipe: give --image, the address of our image in ECR")
    return Artifact(
        image=image or description["AlgorithmSpecification"]["TrainingImage"],
        uri=description["ModelArtifacts"]["S3ModelArtifacts"],
        classes=int(settings["num_classes"]) if builtin else len(settings["classes"].split(",")),
        side=int(settings["image_shape"].rsplit(",", 1)[1]) if builtin else None,
    )


def from_file(clients: Clients, model: Path, image: str | None, bucket: str | None) -> Artifact:
    """Put a local model file into S3, under a name that follows from its content.

    Raises:
        UserError: no such model, no image, no bucket, no permission.
    """
    if not image:
        raise UserError("give --image, the address of our image in ECR (docs/deploy.md shows how to push it)")
    if not bucket:
        raise UserError("give --bucket, where the model and the captures go")
    loaded = load_model(model)
    body = pack(model)
    key = f"loading-bay/models/{hashlib.sha256(body).hexdigest()[:16]}/model.tar.gz"
    with explained(f"upload the model to s3://{bucket}/{key}"):
        clients.s3.put_object(Bucket=bucket, Key=key, Body=body)
    return Artifact(image, f"s3://{bucket}/{key}", len(loaded.class_names), loaded.side)


def pack(model: Path) -> bytes:
    """Return `model.tar.gz` with an ONNX file in it; the same model makes the same bytes."""
    content = model.read_bytes()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        member = tarfile.TarInfo(MODEL_FILE)
        member.size, member.mode = len(content), 0o644
        tar.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)

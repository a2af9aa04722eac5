"""The artifact to host: a training job's model and image, or a local ONNX file that is packed and uploaded."""

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
    """A model in S3, the image that serves it, its number of classes, and the side of its input images in pixels."""

    image: str
    uri: str
    classes: int
    side: int | None


def from_job(clients: Clients, job: str, image: str | None) -> Artifact:
    """Use the model of a finished training job.

    A model of the built-in algorithm is served by the image that trained it; a model of the bundled recipe needs
    `image`, the container built from this repository.

    Raises:
        UserError: the job does not exist or did not complete, or the image is missing.
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
    """Upload a local model file to S3, under a key derived from its content.

    Raises:
        UserError: the model, image, bucket or permission is missing.
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
    """Return a `model.tar.gz` that holds an ONNX file; the same model gives the same bytes."""
    content = model.read_bytes()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        member = tarfile.TarInfo(MODEL_FILE)
        member.size, member.mode = len(content), 0o644
        tar.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)

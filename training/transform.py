"""Batch Transform: every photo below an S3 prefix through the model, with no workflow and no endpoint.

For archives of PNG and JPEG photos where no record, announcement or retry per photo is wanted; otherwise
ClassifyBatch is the way. The results are lines in the form of the decisions table.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.aws import explained
from training.errors import TrainingError

POLL_SECONDS: Final = 15
# The container refuses larger bodies, so that sending them would only cost.
MAX_PAYLOAD_MB: Final = 6
# Bicycle or motorcycle, PNG or JPEG: the container tells them apart itself.
CONTENT_TYPE: Final = "application/x-image"
RETRIES: Final = 3
ANSWER_SECONDS: Final = 60

Report = Callable[[str], None]


@dataclass(frozen=True)
class Address:
    """A bucket and a folder in it, its prefix ending with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "Address":
        """Read ``s3://bucket/prefix``; a whole folder is meant, with or without its slash.

        Raises:
            TrainingError: it is no such address.

        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise TrainingError(f"{uri} is no S3 address: write s3://BUCKET/PREFIX")
        return cls(bucket, prefix.rstrip("/") + "/" if prefix else "")

    @property
    def uri(self) -> str:
        """The address as it is written."""
        return f"s3://{self.bucket}/{self.prefix}"


def model_of(sagemaker: Any, endpoint: str) -> str:
    """Give the name of the model that an endpoint serves.

    Raises:
        TrainingError: there is no such endpoint, or AWS refuses.

    """
    with explained(f"find the model of endpoint {endpoint}"):
        config = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    return str(variants[0]["ModelName"])


def start(sagemaker: Any, name: str, model: str, photos: Address, results: Address, instances: str, count: int) -> None:
    """Start a transform job of one photo a request.

    Raises:
        TrainingError: AWS refuses.

    """
    with explained(f"start transform job {name}"):
        sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=model,
            BatchStrategy="SingleRecord",
            MaxPayloadInMB=MAX_PAYLOAD_MB,
            ModelClientConfig={"InvocationsTimeoutInSeconds": ANSWER_SECONDS, "InvocationsMaxRetries": RETRIES},
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": photos.uri}},
                "ContentType": CONTENT_TYPE,
                "SplitType": "None",
            },
            TransformOutput={"S3OutputPath": results.uri, "Accept": "application/json", "AssembleWith": "None"},
            TransformResources={"InstanceType": instances, "InstanceCount": count},
        )


def follow(sagemaker: Any, name: str, report: Report, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for the end of a job, saying each change of its status.

    Raises:
        TrainingError: it failed or was stopped; the message says why.

    """
    said = ""
    while True:
        with explained(f"follow transform job {name}"):
            job = sagemaker.describe_transform_job(TransformJobName=name)
        status = job["TransformJobStatus"]
        if status != said:
            report(f"job {name}: {status}")
            said = status
        if status == "Completed":
            return
        if status in {"Failed", "Stopped"}:
            raise TrainingError(f"transform job {name} {status}: {job.get('FailureReason', 'no reason given')}")
        sleep(POLL_SECONDS)


def collect(
    s3: Any, photos: Address, results: Address, class_names: Sequence[str], threshold: float, out: Path
) -> dict[str, int]:
    """Write one line a photo to ``out``, in the form of the decisions table; gives the photos by status.

    Raises:
        TrainingError: AWS refuses, or an answer is not one probability per class.

    """
    counts: dict[str, int] = {}
    keys = [key for key in _keys(s3, results) if key.endswith(".out")]
    with out.open("w") as file, ThreadPoolExecutor(16) as pool:
        for key, answer in zip(keys, pool.map(lambda key: _read(s3, results.bucket, key), keys), strict=True):
            # SageMaker lays the results out as the photos lie in their folder.
            photo = photos.prefix + key.removeprefix(results.prefix).removesuffix(".out")
            decision = _decision(photos.bucket, photo, answer, class_names, threshold)
            counts[decision["status"]] = counts.get(decision["status"], 0) + 1
            file.write(json.dumps(decision, ensure_ascii=False) + "\n")
    return counts


def _keys(s3: Any, where: Address) -> Iterator[str]:
    with explained(f"list {where.uri}"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=where.bucket, Prefix=where.prefix):
            yield from (item["Key"] for item in page.get("Contents", []))


def _read(s3: Any, bucket: str, key: str) -> bytes:
    with explained(f"read s3://{bucket}/{key}"):
        return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def _decision(bucket: str, key: str, answer: bytes, class_names: Sequence[str], threshold: float) -> dict[str, Any]:
    try:
        probabilities = dict(zip(class_names, json.loads(answer), strict=True))
        vehicle = max(probabilities, key=probabilities.__getitem__)
        confidence = float(probabilities[vehicle])
    except (ValueError, TypeError) as error:
        raise TrainingError(f"the answer for {key} is not {len(class_names)} probabilities: {answer[:80]!r}") from error
    decision: dict[str, Any] = {
        "photo": f"s3://{bucket}/{key}",
        "s3_bucket": bucket,
        "s3_key": key,
        "status": "ROUTED" if confidence >= threshold else "REVIEW",
        "confidence": confidence,
        "probabilities": probabilities,
    }
    return decision | ({"vehicle": vehicle} if confidence >= threshold else {})

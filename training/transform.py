"""Batch Transform: every photo below an S3 prefix through the model, with no workflow and no endpoint.

For archives of PNG and JPEG photos where no record, announcement or retry per photo is wanted; otherwise
ClassifyBatch is the way. The results are lines in the form of the decisions table.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stack.addresses import Address
from stack.decisions import Decision
from stack.errors import UserError, explained

POLL_SECONDS = 15
# The container refuses larger bodies, so that sending them would only cost.
MAX_PAYLOAD_MB = 6
# Bicycle or motorcycle, PNG or JPEG: the container tells them apart itself.
CONTENT_TYPE = "application/x-image"
RETRIES = 3
ANSWER_SECONDS = 60

Report = Callable[[str], None]


def model_of(sagemaker: Any, endpoint: str) -> str:
    """Return the name of the model that an endpoint serves.

    Raises:
        UserError: there is no such endpoint, or AWS refuses.
    """
    with explained(f"find the model of endpoint {endpoint}"):
        config = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    return str(variants[0]["ModelName"])


def start(sagemaker: Any, name: str, model: str, photos: Address, results: Address, instances: str, count: int) -> None:
    """Start a transform job of one photo a request.

    Raises:
        UserError: AWS refuses.
    """
    with explained(f"start transform job {name}"):
        sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=model,
            BatchStrategy="SingleRecord",
            MaxPayloadInMB=MAX_PAYLOAD_MB,
            ModelClientConfig={"InvocationsTimeoutInSeconds": ANSWER_SECONDS, "InvocationsMaxRetries": RETRIES},
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": str(photos)}},
                "ContentType": CONTENT_TYPE,
                "SplitType": "None",
            },
            TransformOutput={"S3OutputPath": str(results), "Accept": "application/json", "AssembleWith": "None"},
            TransformResources={"InstanceType": instances, "InstanceCount": count},
        )


def wait_for(
    sagemaker: Any, name: str, report: Report, sleep: Callable[[float], None] = time.sleep
) -> tuple[datetime, datetime]:
    """Wait for the end of a job, saying each change of its status; returns when it started and ended.

    Raises:
        UserError: it failed or was stopped; the message says why.
    """
    said = ""
    while True:
        with explained(f"follow transform job {name}"):
            job: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
        status = job["TransformJobStatus"]
        if status != said:
            report(f"job {name}: {status}")
            said = status
        if status == "Completed":
            return job["TransformStartTime"], job["TransformEndTime"]
        if status in {"Failed", "Stopped"}:
            raise UserError(f"transform job {name} {status}: {job.get('FailureReason', 'no reason given')}")
        sleep(POLL_SECONDS)


def collect(
    s3: Any,
    photos: Address,
    results: Address,
    class_names: Sequence[str],
    threshold: float,
    ran: tuple[datetime, datetime],
    out: Path,
) -> Counter[str]:
    """Write one line a photo to `out`, in the form of the decisions table; returns the photos by status.

    Args:
        s3: a boto3 client.
        photos: where the photos are.
        results: where SageMaker wrote its answers.
        class_names: in the order of the answers.
        threshold: the confidence from which on a photo is routed.
        ran: when the job started and ended, which stands for each photo's claim and decision.
        out: the file to write.

    Raises:
        UserError: AWS refuses, or an answer is not one probability per class.
    """
    counts: Counter[str] = Counter()
    etags = dict(_objects(s3, photos))
    keys = [key for key, _ in _objects(s3, results) if key.endswith(".out")]
    with out.open("wb") as file, ThreadPoolExecutor(16) as pool:
        for key, answer in zip(keys, pool.map(lambda key: _read(s3, results.bucket, key), keys), strict=True):
            # SageMaker lays the results out as the photos lie in their folder.
            photo = photos.prefix + key.removeprefix(results.prefix).removesuffix(".out")
            probabilities = _probabilities(photo, answer, class_names)
            decision = _decision(photos.bucket, photo, etags.get(photo), probabilities, threshold, ran)
            counts[decision.status] += 1
            file.write(msgspec.json.encode(decision) + b"\n")
    return counts


def _objects(s3: Any, where: Address) -> Iterator[tuple[str, str]]:
    with explained(f"list {where}"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=where.bucket, Prefix=where.prefix):
            yield from ((item["Key"], item["ETag"].strip('"')) for item in page.get("Contents", []))


def _read(s3: Any, bucket: str, key: str) -> bytes:
    with explained(f"read s3://{bucket}/{key}"):
        return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def _probabilities(key: str, answer: bytes, class_names: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(each) for name, each in zip(class_names, json.loads(answer), strict=True)}
    except (ValueError, TypeError) as error:
        raise UserError(f"the answer for {key} is not {len(class_names)} probabilities: {answer[:80]!r}") from error


def _decision(
    bucket: str,
    key: str,
    etag: str | None,
    probabilities: dict[str, float],
    threshold: float,
    ran: tuple[datetime, datetime],
) -> Decision:
    vehicle = max(probabilities, key=probabilities.__getitem__)
    confidence = probabilities[vehicle]
    return Decision(
        photo=f"s3://{bucket}/{key}#{etag or 'none'}",
        s3_bucket=bucket,
        s3_key=key,
        etag=etag,
        status="ROUTED" if confidence >= threshold else "REVIEW",
        claimed_at=ran[0],
        decided_at=ran[1],
        probabilities=probabilities,
        confidence=confidence,
        vehicle=vehicle if confidence >= threshold else None,
    )

"""InferVehicle: the reduced picture in, one probability per class out."""

import base64
import os
import time
from dataclasses import dataclass
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.config import Config

from functions.decisions.classes import parse_classes

from .endpoint import EndpointUnavailable, InvalidPrediction, predict

logger = Logger(use_rfc3339=True)
metrics = Metrics()
# Step Functions retries over minutes, so a waiting photo costs no Lambda time.
runtime = boto3.client(
    "sagemaker-runtime",
    config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"}),
)


@dataclass(frozen=True)
class InferenceSettings:
    """The endpoint, and the class names in the order of its probabilities."""

    endpoint_name: str = os.environ["ENDPOINT_NAME"]
    class_names: tuple[str, ...] = tuple(parse_classes(os.environ["VEHICLE_CLASSES"]))


settings = InferenceSettings()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Replace `image_data` and `content_type` with `inferences`, `probabilities` (these by class name) and `variant`.

    If the endpoint reports a detection, `detection` holds it; see `endpoint.read_detection`.

    Raises:
        EndpointUnavailable: worth another try.
        InvalidPrediction: the answer is not usable.
    """
    about = {"s3_key": event.get("s3_key"), "execution_arn": event.get("execution_arn")}
    asked = time.perf_counter()
    try:
        prediction = predict(
            runtime,
            settings.endpoint_name,
            base64.b64decode(event["image_data"]),
            content_type=event["content_type"],
            class_names=settings.class_names,
            inference_id=event.get("claim"),
        )
    except (EndpointUnavailable, InvalidPrediction) as error:
        metrics.add_metric("EndpointErrors", MetricUnit.Count, 1)
        logger.warning("no prediction", extra=about | {"error": type(error).__name__, "reason": str(error)})
        raise
    metrics.add_metric("EndpointLatency", MetricUnit.Milliseconds, (time.perf_counter() - asked) * 1000)
    if prediction.fault:
        metrics.add_metric("DetectionsInvalid", MetricUnit.Count, 1)
        logger.warning("detection left out", extra=about | {"reason": prediction.fault})
    logger.info("vehicle inferred", extra=about | {"inferences": prediction.probabilities})
    record = {name: value for name, value in event.items() if name not in {"image_data", "content_type"}}
    probabilities = dict(zip(settings.class_names, prediction.probabilities, strict=True))
    answer = {"inferences": prediction.probabilities, "probabilities": probabilities, "variant": prediction.variant}
    return record | answer | ({"detection": prediction.detection} if prediction.detection else {})

"""Asks the SageMaker endpoint for the class probabilities of a picture, and checks the answer."""

import json
import math
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

MAX_ANSWER_BYTES = 64 * 1024
# Single-precision softmax outputs, printed with few digits, still sum to one within this tolerance.
SUM_TOLERANCE = 0.01
# The smallest positive number that DynamoDB, where probabilities are recorded, can hold.
SMALLEST = 1e-130
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html#API_runtime_InvokeEndpoint_Errors
TRANSIENT = {
    "InternalDependencyException",
    "InternalFailure",
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "ThrottlingException",
}


class EndpointUnavailable(Exception):
    """The endpoint is throttled, failing, not in service or too slow. The state machine retries this."""


class InvalidPrediction(Exception):
    """The endpoint refused the picture or did not answer with one probability per class. Never retried."""


@dataclass(frozen=True)
class Prediction:
    """One probability per class, in the order of the class names, and the variant that gave them."""

    probabilities: list[float]
    variant: str


def predict(
    runtime: Any,
    endpoint_name: str,
    image: bytes,
    *,
    content_type: str,
    class_count: int,
    inference_id: str | None = None,
) -> Prediction:
    """Send one picture of `content_type` to the endpoint and read its `class_count` probabilities.

    Data capture keeps `inference_id` (1 to 64 ASCII characters), so a captured picture can be traced to its photo.

    Raises:
        EndpointUnavailable: worth another try.
        InvalidPrediction: another try would give the same.
    """
    named = {"InferenceId": inference_id} if inference_id else {}
    try:
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint_name, ContentType=content_type, Accept="application/json", Body=image, **named
        )
        body = answer["Body"].read(MAX_ANSWER_BYTES + 1)
        answer["Body"].read(1)  # botocore notices a truncated answer only at its end
    except ClientError as error:
        raise _named(error, endpoint_name) from error
    except BotoCoreError as error:
        raise EndpointUnavailable(f"endpoint {endpoint_name} did not answer: {error}") from error
    except Exception as error:  # botocore fails on errors that a proxy in front of SageMaker made up
        said = f"endpoint {endpoint_name} answered with an unreadable error ({type(error).__name__})"
        raise EndpointUnavailable(said) from error
    return Prediction(_probabilities(body, class_count), answer.get("InvokedProductionVariant", ""))


def _named(error: ClientError, endpoint_name: str) -> Exception:
    # A proxy's made-up error may not even be text.
    code, message = str(error.response["Error"]["Code"]), str(error.response["Error"]["Message"])
    said = f"endpoint {endpoint_name} answered {code}: {message}"[:500]
    if code == "ModelError":
        status = str(error.response.get("OriginalStatusCode", 500))
        refused = len(status) == 3 and status.startswith("4") and status != "429"
        return InvalidPrediction(said) if refused else EndpointUnavailable(said)
    not_in_service = code == "ValidationError" and "not found" in message
    if code in TRANSIENT or not_in_service or error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
        return EndpointUnavailable(said)
    return error


def _probabilities(body: bytes, class_count: int) -> list[float]:
    shown = repr(body[:80])
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidPrediction(f"the answer is not JSON: {shown}") from error
    if not isinstance(answer, list) or len(answer) != class_count:
        raise InvalidPrediction(f"the answer is not a list of {class_count} probabilities: {shown}")
    if not all(type(p) in {int, float} and math.isfinite(p) and 0 <= p <= 1 for p in answer):
        raise InvalidPrediction(f"the answer contains values that are not probabilities: {shown}")
    if abs(sum(answer) - 1) > SUM_TOLERANCE:
        raise InvalidPrediction(f"the probabilities sum to {sum(answer):.3f}, not to 1: {shown}")
    return [float(p) if p >= SMALLEST else 0.0 for p in answer]

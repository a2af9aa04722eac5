"""Asks the SageMaker endpoint for the class probabilities of a picture, and checks the answer."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

MAX_ANSWER_BYTES = 64 * 1024
# Single-precision softmax outputs, printed with few digits, still sum to one within this tolerance.
SUM_TOLERANCE = 0.01
# The smallest positive number that DynamoDB, where probabilities are recorded, can hold.
SMALLEST = 1e-130
# Why an endpoint that looks for vehicles is not sure of a photo.
REASON_CODES = ("NO_VEHICLE", "SEVERAL_VEHICLES", "TOO_SMALL", "UNSURE")
EDGES = ("left", "top", "right", "bottom")
MOST_VEHICLES = 1000
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
    """One probability per class, in the order of the class names, and the variant that gave them.

    `detection` comes from the custom attributes (see `read_detection`); `fault` says why they are left out.
    """

    probabilities: list[float]
    variant: str
    detection: dict[str, object] | None = None
    fault: str = ""


def predict(
    runtime: Any,
    endpoint_name: str,
    image: bytes,
    *,
    content_type: str,
    class_names: Sequence[str],
    inference_id: str | None = None,
) -> Prediction:
    """Send one picture of `content_type` to the endpoint and read its probability of each class.

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
    probabilities = _probabilities(body, len(class_names))
    detection, fault = None, ""
    try:
        detection = read_detection(answer.get("CustomAttributes", ""), class_names)
    except ValueError as error:
        fault = str(error)
    return Prediction(probabilities, answer.get("InvokedProductionVariant", ""), detection, fault)


def read_detection(attributes: str, class_names: Sequence[str]) -> dict[str, object] | None:
    """Read an endpoint's detection from the custom attributes of its answer; None if they do not hold one.

    The attributes are JSON with any of `box` (left, top, right, bottom as shares of the photo's sides) with `score`
    (0 to 1), `counts` (vehicles by class) and `reason_code` (one of REASON_CODES). The box is returned with its
    edges by name. Other keys are left out; attributes that are not a JSON object are not meant for this function.

    Raises:
        ValueError: one of these has the wrong form.
    """
    try:
        given = json.loads(attributes)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict):
        return None
    found: dict[str, object] = {}
    if "box" in given:
        box, score = given["box"], given.get("score")
        if not (isinstance(box, list) and len(box) == len(EDGES) and all(map(_is_share, box))):
            raise ValueError(f"the box is not four shares of the photo's sides: {_shown(box)}")
        left, top, right, bottom = map(_rounded, box)
        if left >= right or top >= bottom:
            raise ValueError(f"the box is empty: {_shown(box)}")
        if score is None or not _is_share(score):
            raise ValueError(f"the score of the box is not between 0 and 1: {_shown(score)}")
        found |= {"box": dict(zip(EDGES, (left, top, right, bottom), strict=True)), "score": _rounded(score)}
    if "counts" in given:
        counts = given["counts"]
        if not (isinstance(counts, dict) and set(counts) <= set(class_names) and all(map(_is_count, counts.values()))):
            raise ValueError(f"the counts are not numbers of vehicles by class: {_shown(counts)}")
        found["counts"] = counts
    if "reason_code" in given:
        if given["reason_code"] not in REASON_CODES:
            raise ValueError(f"the reason code is not one of {', '.join(REASON_CODES)}: {_shown(given['reason_code'])}")
        found["reason_code"] = given["reason_code"]
    return found or None


def _is_share(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= 1


def _rounded(share: float) -> float:
    # To a 25th of a pixel; smaller numbers than DynamoDB has become 0.
    return round(float(share), 4)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_VEHICLES


def _shown(value: object) -> str:
    return repr(value)[:80]


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

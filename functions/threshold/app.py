"""CheckConfidence: turns probabilities into the vehicle and the model's confidence."""

import os
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from functions.decisions.chance import is_drawn
from functions.decisions.classes import VehicleClass, parse_classes

from .confidence import LowConfidence, choose_vehicle

logger = Logger(use_rfc3339=True)
metrics = Metrics()


@dataclass(frozen=True)
class ThresholdSettings:
    """The lowest accepted confidence (0 to 1), the classes in the model's order, the share audited and its salt."""

    threshold: float = float(os.environ["CONFIDENCE_THRESHOLD"])
    classes: tuple[VehicleClass, ...] = tuple(parse_classes(os.environ["VEHICLE_CLASSES"]).values())
    audit_share: float = float(os.environ["AUDIT_SHARE"])
    audit_salt: str = os.environ["AUDIT_SALT"]


settings = ThresholdSettings()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Add `vehicle`, `confidence`, `bay` and `order_range` to the record, and `audit_share` if a person audits it.

    Raises:
        LowConfidence: a person decides.
    """
    about = {"s3_key": event.get("s3_key"), "execution_arn": event.get("execution_arn")}
    metrics.add_metric("Confidence", MetricUnit.NoUnit, max(event["inferences"]))
    try:
        choice = choose_vehicle(event["inferences"], settings.classes, settings.threshold)
    except LowConfidence as error:
        metrics.add_metric("PhotosInReview", MetricUnit.Count, 1)
        logger.warning("photo needs review", extra=about | {"error": "LowConfidence", "reason": str(error)})
        raise
    metrics.add_metric("PhotosRouted", MetricUnit.Count, 1)
    logger.info("vehicle chosen", extra=about | {"vehicle": choice.vehicle.name, "confidence": choice.confidence})
    photo = f"{event.get('s3_key')}#{event.get('etag')}"
    audited = is_drawn(photo, settings.audit_share, settings.audit_salt)
    return (
        event
        | ({"audit_share": settings.audit_share} if audited else {})
        | {
            "vehicle": choice.vehicle.name,
            "confidence": choice.confidence,
            "bay": choice.vehicle.bay,
            "order_range": choice.vehicle.order_range,
        }
    )

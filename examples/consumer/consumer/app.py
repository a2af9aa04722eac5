"""Acts once for each decision of Loading Bay, even if its event arrives twice or late."""

import json
import os
from typing import Any, Literal

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.parser import BaseModel, parse
from aws_lambda_powertools.utilities.parser.envelopes import EventBridgeEnvelope

logger = Logger(service="consumer")
processor = BatchProcessor(event_type=EventType.SQS)
acted = DynamoDBPersistenceLayer(table_name=os.environ["ACTED_TABLE"])
once = IdempotencyConfig(event_key_jmespath="[photo, claim, revision]", expires_after_seconds=14 * 86400)


class Decision(BaseModel):
    """The fields of the event that dispatch needs; docs/events.md describes all of them."""

    version: Literal["1"]
    photo: str
    claim: str
    revision: int
    driver: str
    order: str
    status: Literal["ROUTED", "REJECTED"]
    bay: str = ""
    reason_code: str = ""


def tell_dispatch(decision: dict[str, Any]) -> None:
    """Replace this with a call to your dispatch system; a decision with a higher revision replaces an earlier one."""
    logger.info("decided", extra=decision)


@idempotent_function(data_keyword_argument="decision", config=once, persistence_store=acted)
def act(decision: dict[str, Any]) -> None:
    """Act on this decision, unless that has already happened."""
    tell_dispatch(decision)


def heard(record: SQSRecord) -> None:
    """Check the form of one event, and act on it."""
    decision = parse(json.loads(record.body), Decision, EventBridgeEnvelope)
    act(decision=decision.model_dump())


def handler(event: dict[str, Any], context: Any) -> Any:
    """Process a batch from the queue; failed messages stay, and move to the dead-letter queue after five attempts."""
    once.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=heard, processor=processor, context=context)

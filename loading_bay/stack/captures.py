"""Where a stack's endpoint keeps its captured requests and answers, and the baseline to compare them with."""

import json
from pathlib import Path

from .deployed import LOCAL_RECORD, Deployed
from .errors import UserError, explained
from .template import ROOT

SHIPPED_BASELINE = ROOT / "training" / "model" / "baseline.json"


def capture_source(deployed: Deployed) -> str:
    """Return the folder, or `s3://bucket/prefix`, of the captures of a stack's endpoint.

    Raises:
        UserError: the endpoint does not exist or does not capture data.
    """
    name = deployed.outputs["EndpointName"]
    if deployed.endpoint_url is not None:
        return _recorded("captures")
    with explained(f"look at endpoint {name}"):
        endpoint = deployed.client("sagemaker").describe_endpoint(EndpointName=name)
    capture = endpoint.get("DataCaptureConfig", {})
    if not capture.get("EnableCapture"):
        raise UserError(f"endpoint {name} captures nothing: deploy it with --capture-percent, or name a folder to read")
    return f"{capture['DestinationS3Uri'].rstrip('/')}/{name}"


def baseline_of(deployed: Deployed) -> Path | None:
    """Return the baseline of a stack's model: the shipped one, or the file beside the local stack's model, if any."""
    if deployed.endpoint_url is None:
        return SHIPPED_BASELINE
    beside = Path(_recorded("model")).with_name("baseline.json")
    return beside if beside.is_file() else None


def _recorded(name: str) -> str:
    return str(json.loads(LOCAL_RECORD.read_text())[name])

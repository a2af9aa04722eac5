"""Where a stack's endpoint keeps its captured requests and answers."""

import json

from .deployed import LOCAL_RECORD, Deployed
from .errors import UserError, explained


def capture_source(deployed: Deployed) -> str:
    """Return the folder, or `s3://bucket/prefix`, of the captures of a stack's endpoint.

    Raises:
        UserError: the endpoint does not exist or does not capture data.
    """
    name = deployed.outputs["EndpointName"]
    if deployed.endpoint_url is not None:
        return str(json.loads(LOCAL_RECORD.read_text())["captures"])
    with explained(f"look at endpoint {name}"):
        endpoint = deployed.client("sagemaker").describe_endpoint(EndpointName=name)
    capture = endpoint.get("DataCaptureConfig", {})
    if not capture.get("EnableCapture"):
        raise UserError(f"endpoint {name} captures nothing: deploy it with --capture-percent, or name a folder to read")
    return f"{capture['DestinationS3Uri'].rstrip('/')}/{name}"

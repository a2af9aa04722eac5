"""The side of the picture that an endpoint's model takes, and whether the stack sends such pictures.

A picture of another size is classified too, after another reduction, and so a little worse: nobody would notice.
"""

from typing import Any

import urllib3

from .errors import UserError

# The server says it in each answer to GET /ping; `model deploy` sets it in the SageMaker model's environment.
HEADER = "X-Image-Size"
VARIABLE = "LOADING_BAY_IMAGE_SIZE"
PARAMETER = "ImageSize"


def served_size(url: str) -> int | None:
    """Return what the server at an address takes, in pixels; None where it does not say so."""
    try:
        said = urllib3.request("GET", f"{url.rstrip('/')}/ping", retries=False, timeout=5).headers.get(HEADER)
    except urllib3.exceptions.HTTPError:
        return None
    return int(said) if said else None


def hosted_size(sagemaker: Any, endpoint: str) -> int | None:
    """Return what the model of a SageMaker endpoint takes, in pixels; None where nothing says so."""
    configuration = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=configuration)["ProductionVariants"]
    model = sagemaker.describe_model(ModelName=variants[0]["ModelName"])
    said = model.get("PrimaryContainer", {}).get("Environment", {}).get(VARIABLE)
    return int(said) if said else None


def require_same(endpoint: str, taken: int | None, sent: int) -> None:
    """Check that a stack sends pictures of the size that its endpoint's model takes, where that is known.

    Raises:
        UserError: it does not; the message says what to change.
    """
    if taken is not None and taken != sent:
        raise UserError(
            f"{endpoint}'s model takes pictures of {taken} × {taken} pixels, the stack sends {sent} × {sent}: "
            f"deploy the stack with {PARAMETER}={taken}"
        )

"""The picture size that an endpoint's model takes, and a check that the stack sends that size.

The server reduces a picture of another size again and classifies it a little worse, which nobody would notice.
"""

from typing import Any

import urllib3

from .errors import UserError

# The server returns it in each answer to GET /ping; `model deploy` sets it in the environment of the SageMaker model.
HEADER = "X-Image-Size"
VARIABLE = "LOADING_BAY_IMAGE_SIZE"
PARAMETER = "ImageSize"


def served_size(url: str) -> int | None:
    """Return the picture size (pixels) of the server at an address, or None if the server does not say."""
    try:
        said = urllib3.request("GET", f"{url.rstrip('/')}/ping", retries=False, timeout=5).headers.get(HEADER)
    except urllib3.exceptions.HTTPError:
        return None
    return int(said) if said else None


def hosted_size(sagemaker: Any, endpoint: str) -> int | None:
    """Return the picture size (pixels) of a SageMaker endpoint's model, or None if it is not recorded."""
    configuration = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=configuration)["ProductionVariants"]
    model = sagemaker.describe_model(ModelName=variants[0]["ModelName"])
    said = model.get("PrimaryContainer", {}).get("Environment", {}).get(VARIABLE)
    return int(said) if said else None


def require_same(endpoint: str, taken: int | None, sent: int) -> None:
    """Check that a stack sends pictures of the size that its endpoint's model takes, if that size is known.

    Raises:
        UserError: the sizes differ; the message says how to change the stack.
    """
    if taken is not None and taken != sent:
        raise UserError(
            f"{endpoint}'s model takes pictures of {taken} × {taken} pixels, but the stack sends {sent} × {sent}: "
            f"deploy the stack with {PARAMETER}={taken}"
        )

"""The longest side of the photos that an endpoint's model takes, and whether the stack sends such photos.

A photo of another size, or cut to its central square, is classified less well, and nobody would notice. An endpoint
that does not report a size, such as one with the built-in SageMaker algorithm, takes the photos of any stack.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import urllib3

from .errors import UserError
from .template import parameter_default

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

# The server returns it in each answer to GET /ping; `model deploy` sets it in the environment of the SageMaker model.
HEADER = "X-Image-Size"
VARIABLE = "LOADING_BAY_IMAGE_SIZE"
SIZE_PARAMETER, SHAPE_PARAMETER, WHOLE = "ImageSize", "ImageShape", "WHOLE"


def served_size(url: str) -> int | None:
    """Return the picture size (pixels) of the server at an address, or None if the server does not say."""
    try:
        said = urllib3.request("GET", f"{url.rstrip('/')}/ping", retries=False, timeout=5).headers.get(HEADER)
    except urllib3.exceptions.HTTPError:
        return None
    return int(said) if said else None


def hosted_size(sagemaker: "SageMakerClient", endpoint: str) -> int | None:
    """Return the picture size (pixels) of a SageMaker endpoint's model, or None if it is not recorded."""
    configuration = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=configuration)["ProductionVariants"]
    model = sagemaker.describe_model(ModelName=variants[0]["ModelName"])
    said = model.get("PrimaryContainer", {}).get("Environment", {}).get(VARIABLE)
    return int(said) if said else None


def require_same(endpoint: str, taken: int | None, parameters: Mapping[str, str]) -> None:
    """Check that a stack with these parameters sends the photos that its endpoint's model takes, if that is known.

    Raises:
        UserError: the sizes differ; the message says how to change the stack.
    """
    shape, side = (parameters.get(name, parameter_default(name)) for name in (SHAPE_PARAMETER, SIZE_PARAMETER))
    if taken is not None and (shape, int(side)) != (WHOLE, taken):
        sent = f"whole photos of {side} pixels" if shape == WHOLE else f"squares of {side} × {side} pixels"
        raise UserError(
            f"{endpoint}'s model takes whole photos of {taken} pixels, but the stack sends {sent}: "
            f"deploy the stack with {SHAPE_PARAMETER}={WHOLE} {SIZE_PARAMETER}={taken}"
        )

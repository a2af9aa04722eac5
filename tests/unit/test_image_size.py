"""The size of the pictures that the stack sends is compared with the size that the endpoint's model takes."""

import boto3
import pytest
from botocore.stub import Stubber

from loading_bay.stack.errors import UserError
from loading_bay.stack.image_size import VARIABLE, hosted_size, require_same, served_size

MODEL = {
    "ModelName": "bay-model",
    "ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/bay-model",
    "ExecutionRoleArn": "arn:aws:iam::123456789012:role/endpoint",
    "CreationTime": 0,
}


@pytest.mark.parametrize(("environment", "size"), [({VARIABLE: "64"}, 64), ({}, None)])
def test_a_sagemaker_endpoint_has_the_size_in_its_model(environment: dict[str, str], size: int | None) -> None:
    sagemaker = boto3.client("sagemaker")
    arn = "arn:aws:sagemaker:us-east-1:123456789012:"
    with Stubber(sagemaker) as stub:
        stub.add_response(
            "describe_endpoint",
            {
                "EndpointName": "bay",
                "EndpointArn": f"{arn}endpoint/bay",
                "EndpointConfigName": "bay-2",
                "EndpointStatus": "InService",
                "CreationTime": 0,
                "LastModifiedTime": 0,
            },
            {"EndpointName": "bay"},
        )
        stub.add_response(
            "describe_endpoint_config",
            {
                "EndpointConfigName": "bay-2",
                "EndpointConfigArn": f"{arn}endpoint-config/bay-2",
                "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "bay-model"}],
                "CreationTime": 0,
            },
            {"EndpointConfigName": "bay-2"},
        )
        stub.add_response(
            "describe_model",
            MODEL | {"PrimaryContainer": {"Environment": environment}},
            {"ModelName": "bay-model"},
        )
        assert hosted_size(sagemaker, "bay") == size


def test_a_server_that_does_not_answer_has_no_known_size() -> None:
    assert served_size("http://127.0.0.1:9") is None


def test_another_size_is_said_with_what_to_change() -> None:
    with pytest.raises(UserError, match=r"whole photos of 416 pixels, .* sends whole photos of 320 .* ImageSize=416"):
        require_same("bay", 416, {"ImageSize": "320", "ImageShape": "WHOLE"})


def test_squares_are_not_what_a_model_of_whole_photos_takes() -> None:
    with pytest.raises(UserError, match=r"sends squares of 416 × 416 pixels: .* ImageShape=WHOLE ImageSize=416"):
        require_same("bay", 416, {"ImageSize": "416", "ImageShape": "SQUARE"})


@pytest.mark.parametrize("parameters", [{"ImageSize": "416", "ImageShape": "WHOLE"}, {}])
def test_the_same_size_is_fine_given_or_by_default(parameters: dict[str, str]) -> None:
    require_same("bay", 416, parameters)


def test_an_endpoint_that_says_nothing_takes_anything() -> None:
    require_same("bay", None, {"ImageSize": "32", "ImageShape": "SQUARE"})

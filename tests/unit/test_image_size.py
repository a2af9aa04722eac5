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
    sagemaker = boto3.client("sagemaker", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
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


def test_another_size_is_reported_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"takes pictures of 64 × 64 .* sends 32 × 32: .* ImageSize=64"):
        require_same("bay", 64, 32)


@pytest.mark.parametrize("taken", [64, None])
def test_the_same_size_or_an_unknown_one_is_fine(taken: int | None) -> None:
    require_same("bay", taken, 64)

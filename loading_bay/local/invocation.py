"""Runs one function or one workflow of the local stack by hand."""

import json
import time

from loading_bay.stack.deployed import STACK_NAME

from .stack import Stack

# The result, or the reason for its absence in one line.
Result = tuple[object, str]


def invoke_function(stack: Stack, logical_id: str, event: object) -> Result:
    """Invoke a function, by its name in the template."""
    described = stack.client("cloudformation").describe_stack_resource(
        StackName=STACK_NAME, LogicalResourceId=logical_id
    )
    name = described["StackResourceDetail"]["PhysicalResourceId"]
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
    payload = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        return None, f"{payload['errorType']}: {payload['errorMessage']}"
    return payload, ""


def run_workflow(stack: Stack, output: str, execution_input: object) -> Result:
    """Run a workflow, named by a stack output, to its end."""
    sfn = stack.client("stepfunctions")
    arn = sfn.start_execution(stateMachineArn=stack.outputs[output], input=json.dumps(execution_input))["executionArn"]
    while (described := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(0.1)
    if described["status"] != "SUCCEEDED":
        return None, f"{described['error']}: {described['cause']}"
    return json.loads(described["output"]), ""

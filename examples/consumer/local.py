"""Deploys the consumer beside the local stack, and prints each decision that it acts on, until Ctrl-C."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loading_bay.local.deployment import add_bootstrap, deploy, on_this_machine
from loading_bay.local.stack import PACKAGES, Stack
from loading_bay.stack.deployed import STACK_NAME
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import read_template

HERE = Path(__file__).parent
NAME = "consumer"


def deploy_beside(stack: Stack) -> None:
    """Deploy the template of this folder to the local AWS, as a separate stack."""
    folder = stack.folder / NAME
    code = folder / "build" / NAME
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "consumer", code)
    add_bootstrap(code)
    template = read_template(HERE / "template.yaml")
    template["Resources"]["Consumer"]["Properties"] |= on_this_machine(code)
    (folder / "build" / "template.yaml").write_text(json.dumps(template))
    deploy(folder, stack.environment(), {"LoadingBay": STACK_NAME}, PACKAGES, name=NAME)


def resource(stack: Stack, logical_id: str) -> str:
    """Return the name of one of the consumer's resources; for a queue, its address."""
    cloudformation = stack.client("cloudformation")
    described = cloudformation.describe_stack_resource(StackName=NAME, LogicalResourceId=logical_id)
    return str(described["StackResourceDetail"]["PhysicalResourceId"])


def acted(stack: Stack) -> Iterator[dict[str, Any]]:
    """Yield each decision that the consumer has acted on: a line of its log."""
    pages = stack.client("logs").get_paginator("filter_log_events")
    for page in pages.paginate(logGroupName=resource(stack, "Log")):
        for event in page["events"]:
            if '"decided"' in event["message"]:
                yield json.loads(event["message"])


def main() -> None:
    """Deploy, then print."""
    stack = Stack.load()
    deploy_beside(stack)
    print(f"listening to {STACK_NAME}: upload a photo, for example with loading-bay upload events/photos", flush=True)
    seen: list[dict[str, Any]] = []
    while True:
        before, seen = len(seen), list(acted(stack))
        for each in seen[before:]:
            told = f"bay {each['bay']}" if each["status"] == "ROUTED" else f"take it again ({each['reason_code']})"
            print(f"{each['photo']} revision {each['revision']}: {told}", flush=True)
        time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass

"""The running local stack: its processes and their addresses."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from loading_bay.operations.reviewers import DRIVERS, REVIEWERS, add_reviewer
from loading_bay.stack.deployed import STACK_NAME, Deployed, outputs_of, parameters_of
from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import command
from loading_bay.stack.image_size import require_same, served_size
from loading_bay.stack.template import ROOT

from . import processes
from .checks import check_model, check_parameters
from .deployment import PYTHON, build, deploy

# The local AWS, behind the guard.
AWS_COMMAND = (str(PYTHON), "-P", str(ROOT / "loading_bay" / "local" / "guard.py"))
# Each concurrent call of a function has its own process of about 50 MB, so without a limit a thousand photos would fill
# the memory of a small machine. Further calls are throttled, as on AWS, and retried.
CONCURRENT_CALLS = 64
MODEL = ROOT / "training" / "model" / "model.onnx"
HOME = (ROOT / ".local").resolve()
# A region that AWS does not have, so tools that ignore AWS_ENDPOINT_URL reach nothing. AWS CLI 1 also leaves the SQS
# address alone, which it replaces in regions where SQS once had another name.
REGION = "local-1"
ENDPOINT_NAME = "loading-bay"
PACKAGES = "loading-bay-packages"  # the bucket of the functions' code
# Facts about a running stack that later commands need.
RECORDED = ("name", "aws_url", "endpoint_url", "secret", "outputs", "parameters", "people")


@dataclass(frozen=True)
class Options:
    """How to start a stack.

    `endpoint_url` replaces this machine's endpoint; `wait_scale` multiplies every wait between retries; `enforce_iam`
    makes the local AWS enforce the functions' roles.
    """

    model: Path = MODEL
    capture_percentage: int = 100
    parameters: Mapping[str, str] = field(default_factory=dict)
    endpoint_url: str | None = None
    wait_scale: float = 1.0
    enforce_iam: bool = False


@dataclass
class Stack:
    """A local stack in `folder`, which holds its state, logs and captures, and the record of its addresses."""

    folder: Path
    name: str = field(default_factory=lambda: time.strftime("%Y%m%d-%H%M%S"))  # keeps its captures apart
    aws_url: str = ""
    endpoint_url: str = ""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    people: dict[str, dict[str, str]] = field(default_factory=dict)  # who may sign in, by group, with the password

    @classmethod
    def load(cls, folder: Path = HOME) -> "Stack":
        """Return the stack that runs in `folder`.

        Raises:
            UserError: no stack runs there.
        """
        stack = cls.find(folder)
        if not stack:
            raise UserError(f"no local stack is running; start one with: {command('up')}")
        return stack

    @classmethod
    def find(cls, folder: Path = HOME) -> "Stack | None":
        """Return the stack that runs in `folder`, if all its processes run."""
        try:
            record = json.loads((folder / "stack.json").read_text())
            stack = cls(folder, **{name: record[name] for name in RECORDED})
        except (OSError, ValueError, TypeError, KeyError):  # no record, or a damaged one
            return None
        healthy = processes.is_healthy(stack.aws_health) and processes.is_healthy(f"{stack.endpoint_url}/ping")
        return stack if healthy else None

    @classmethod
    def up(cls, folder: Path, options: Options, say: Callable[[str], None]) -> "Stack":
        """Start the local AWS and the endpoint, build and deploy the template; all or nothing.

        Calls `say` with each step as it begins, and ends an earlier stack in `folder` first. The caller holds the
        folder's lock.

        Raises:
            UserError: an option is wrong, or a file or program is missing or failed.
        """
        check_parameters(options.parameters)
        if not options.endpoint_url:
            check_model(options.model, options.parameters)
        stack = cls(folder)
        stack.down()
        try:
            stack._start(options, say)
        except BaseException:  # even Ctrl-C must leave nothing behind
            stack.down()
            raise
        return stack

    def down(self) -> bool:
        """End the processes and remove the data of the local AWS; logs and captures stay.

        Returns whether anything ran.
        """
        any_ran = processes.end(self.folder)
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        (self.folder / "stack.json").unlink(missing_ok=True)
        return any_ran

    def environment(self) -> dict[str, str]:
        """Return the variables that point AWS tools at this stack."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }

    def client(self, service: str) -> Any:
        """Return a boto3 client of the local AWS."""
        return self.deployed.client(service)

    @property
    def deployed(self) -> Deployed:
        """The deployed stack, as other commands see it."""
        return Deployed.on_this_machine(self.environment(), self.outputs, self.parameters)

    @property
    def aws_health(self) -> str:
        """The address for health checks of the local AWS."""
        return f"{self.aws_url}/_ministack/health"

    @property
    def sign_in_url(self) -> str:
        """The sign-in address of the review page, whose host is a subdomain of localhost."""
        return self.aws_url.replace("127.0.0.1", "localhost")

    @property
    def captures(self) -> Path:
        """The folder in which the endpoint captures predictions."""
        return self.folder / "capture" / self.name

    def _start(self, options: Options, say: Callable[[str], None]) -> None:
        (self.folder / "run").mkdir(mode=0o700)
        self.captures.parent.mkdir(mode=0o700, exist_ok=True)
        self.captures.mkdir()
        starting = [self._start_aws(options)]
        if options.endpoint_url:
            self.endpoint_url = options.endpoint_url
        else:
            starting.append(self._start_endpoint(options))
        say("local AWS, endpoint, sam build")
        build(self.folder, options.parameters)
        for wait in starting:
            wait()
        require_same(ENDPOINT_NAME, served_size(self.endpoint_url), options.parameters)
        say("sam deploy")
        parameters = {"EndpointUrl": self.endpoint_url, "EndpointName": ENDPOINT_NAME, "SignInUrl": self.sign_in_url}
        parameters |= options.parameters
        here = {"LocationConstraint": REGION}
        self.client("s3").create_bucket(Bucket=PACKAGES, CreateBucketConfiguration=here)
        deploy(self.folder, self.environment(), parameters, PACKAGES)
        described = self.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"][0]
        self.outputs, self.parameters = outputs_of(described), parameters_of(described)
        for group, name, page in ((REVIEWERS, "reviewer", "ReviewUrl"), (DRIVERS, "driver-1", "DriverUrl")):
            if page in self.outputs:
                added = add_reviewer(self.deployed, name, f"{name}@example.com", group)
                self.people[group] = {"name": added.name, "password": added.password or ""}
        record = {name: getattr(self, name) for name in RECORDED}
        record |= {"environment": self.environment(), "captures": str(self.captures), "model": str(options.model)}
        (self.folder / "stack.json").write_text(json.dumps(record, indent=2) + "\n")

    def _start_aws(self, options: Options) -> Callable[[], None]:
        """Start the local AWS; return a function that waits for it."""
        port = processes.free_port()
        self.aws_url = f"http://127.0.0.1:{port}"
        own = self.folder / "run"
        # A clean environment: the functions inherit it, and must not find credentials. Its data, such as the key
        # that signs reviewers' tokens, is in the stack's folder and is deleted with it.
        env = self.environment() | {
            "PATH": os.environ["PATH"],
            "HOME": str(own),
            "TMPDIR": str(own),
            "STATE_DIR": str(own / "state"),
            "S3_DATA_DIR": str(own / "s3"),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "localhost",
            "MINISTACK_REGION": REGION,
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",  # no port but this one
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",
            "LAMBDA_ACCOUNT_CONCURRENCY": str(CONCURRENT_CALLS),
            "SFN_WAIT_SCALE": str(options.wait_scale),
            "AUTH": str(options.enforce_iam).lower(),
        }
        log = self.folder / "aws.log"
        process = processes.start(AWS_COMMAND, log, folder=self.folder, env=env)
        return partial(processes.wait_until_healthy, self.aws_health, process, log)

    def _start_endpoint(self, options: Options) -> Callable[[], None]:
        """Start the endpoint; return a function that waits for it."""
        port = processes.free_port()
        self.endpoint_url = f"http://127.0.0.1:{port}"
        log = self.folder / "endpoint.log"
        command = [str(PYTHON), "-m", "loading_bay.local.endpoint", "--model", str(options.model), "--port", str(port)]
        command += ["--name", ENDPOINT_NAME, "--capture-folder", str(self.captures)]
        command += ["--capture-percentage", str(options.capture_percentage)]
        process = processes.start(command, log, folder=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return partial(processes.wait_until_healthy, f"{self.endpoint_url}/ping", process, log)

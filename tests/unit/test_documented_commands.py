"""Every `aws` command of the documents is one that AWS's command line has, with options that it knows."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from stack.template import ROOT

SESSION = botocore.session.get_session()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GLOBAL_OPTIONS = {"query", "output", "region", "profile", "endpoint-url", "no-cli-pager"}
# Of the command line's own making, without a service model.
OWN = {"s3 cp", "s3 mb", "s3 rb", "s3 ls", "s3 rm", "s3 sync", "ecr get-login-password", "configure", "logs tail"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command that the page shows, those within others too."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        text = block.replace("\\\n", " ")
        inner = re.findall(r"\$\(([^()]*)\)", text)
        outer = re.sub(r"\$\([^()]*\)", "VALUE", text)
        for line in [*inner, *outer.splitlines()]:
            words: list[str] = []
            for word in [*words_of(line), ";"]:
                if set(word) <= set(";|&"):
                    yield words
                    words = []
                else:
                    words.append(word)


def words_of(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    return list(lexer)


def of_aws() -> list[tuple[str, str]]:
    return [(page.name, " ".join(words)) for page in PAGES for words in commands(page) if "aws" in words[:2]]


def problem(command: str) -> str:
    words = command.split()
    if " ".join(words[1:3]) in OWN or words[1] in OWN:
        return ""
    service, action = words[1:3]
    if service == "s3api":
        service = "s3"
    if service not in SESSION.get_available_services():
        return f"there is no service {service}"
    model = SESSION.get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if action not in operations:
        return f"{service} has no {action}"
    shape = model.operation_model(operations[action]).input_shape
    known = {xform_name(name, "-") for name in shape.members} if shape else set()
    given = {word.removeprefix("--").partition("=")[0] for word in words[3:] if word.startswith("--")} - GLOBAL_OPTIONS
    missing = {xform_name(name, "-") for name in shape.required_members} - given if shape else set()
    return f"{action}: unknown {sorted(given - known)}, missing {sorted(missing)}" if given - known or missing else ""


@pytest.mark.parametrize(("page", "command"), of_aws())
def test_a_documented_command_is_one_that_aws_has(page: str, command: str) -> None:
    assert problem(command) == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("aws iam create-role --role-name x", "missing ['assume-role-policy-document']"),
        ("aws ecr describe-image --repository-name x", "ecr has no describe-image"),
        ("aws dynamodb delete-table --table x", "unknown ['table']"),
    ],
)
def test_a_command_that_aws_does_not_have_is_noticed(command: str, said: str) -> None:
    assert said in problem(command)


BUILDSPEC = ROOT / "training" / "container" / "buildspec.yml"
IMAGE_COMMANDS = [
    *(" ".join(words) for page in PAGES for words in commands(page) if words and words[0] in {"docker", "podman"}),
    *re.findall(r"- (docker build.*)", BUILDSPEC.read_text()),
]
DOCKER_FORM = ("--platform linux/amd64", "--provenance=false", "--sbom=false", "oci-mediatypes=false", "push=true")


@pytest.mark.parametrize("command", [each for each in IMAGE_COMMANDS if re.search(r"\b(build|push) ", each)])
def test_an_image_is_built_and_pushed_in_the_one_form_that_sagemaker_takes(command: str) -> None:
    """CreateModel refuses an OCI index, which is what `docker build` with attestations pushes."""
    if command.startswith("docker"):
        assert all(part in command for part in DOCKER_FORM)
    else:
        assert "build --platform linux/amd64 --format docker" in command or "push --format v2s2" in command

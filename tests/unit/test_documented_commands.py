"""Every command in the documents exists and knows its options: the AWS CLI, loading-bay and make."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import click
import pytest
from botocore import xform_name

from loading_bay.cli.main import COMMANDS, main
from loading_bay.stack.hints import PROGRAM
from loading_bay.stack.template import ROOT

SESSION = botocore.session.get_session()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GLOBAL_OPTIONS = {"query", "output", "region", "profile", "endpoint-url", "no-cli-pager"}
# Commands that the AWS CLI adds, without a service model.
OWN = {"s3 cp", "s3 mb", "s3 rb", "s3 ls", "s3 rm", "s3 sync", "ecr get-login-password", "configure", "logs tail"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command on the page, including nested commands."""
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
        return f"service {service} does not exist"
    model = SESSION.get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if action not in operations:
        return f"{service} lacks {action}"
    shape = model.operation_model(operations[action]).input_shape
    known = {xform_name(name, "-") for name in shape.members} if shape else set()
    given = {word.removeprefix("--").partition("=")[0] for word in words[3:] if word.startswith("--")} - GLOBAL_OPTIONS
    missing = {xform_name(name, "-") for name in shape.required_members} - given if shape else set()
    return f"{action}: unknown {sorted(given - known)}, missing {sorted(missing)}" if given - known or missing else ""


@pytest.mark.parametrize(("page", "command"), of_aws())
def test_a_documented_aws_command_exists(page: str, command: str) -> None:
    assert problem(command) == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("aws iam create-role --role-name x", "missing ['assume-role-policy-document']"),
        ("aws ecr describe-image --repository-name x", "ecr lacks describe-image"),
        ("aws dynamodb delete-table --table x", "unknown ['table']"),
    ],
)
def test_an_unknown_aws_command_is_noticed(command: str, said: str) -> None:
    assert said in problem(command)


BUILDSPEC = ROOT / "training" / "container" / "buildspec.yml"
IMAGE_COMMANDS = [
    *(" ".join(words) for page in PAGES for words in commands(page) if words and words[0] in {"docker", "podman"}),
    *re.findall(r"- (docker build.*)", BUILDSPEC.read_text()),
]
DOCKER_FORM = ("--platform linux/amd64", "--provenance=false", "--sbom=false", "oci-mediatypes=false", "push=true")


@pytest.mark.parametrize("command", [each for each in IMAGE_COMMANDS if re.search(r"\b(build|push) ", each)])
def test_an_image_is_built_and_pushed_in_the_form_that_sagemaker_accepts(command: str) -> None:
    """CreateModel refuses an OCI index, such as `docker build` with attestations pushes."""
    if command.startswith("docker"):
        assert all(part in command for part in DOCKER_FORM)
    else:
        assert "build --platform linux/amd64 --format docker" in command or "push --format v2s2" in command


OURS = re.compile(r"\bloading-bay (?!is\b)([a-z]+\b.*)")


def of_ours() -> list[tuple[str, str]]:
    """Every loading-bay command on a page, in examples and in sentences."""
    found = []
    for page in PAGES:
        text = page.read_text()
        shown = [" ".join(words) for words in commands(page)]
        said = [re.sub(r"\s+", " ", each) for each in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
        found += [(page.name, each) for each in dict.fromkeys([*shown, *said]) if OURS.search(each)]
    return found


def left_over(line: str) -> list[str]:
    """Parse a command like click, without converting its arguments; return the words that it does not accept.

    Raises:
        click.UsageError: the command or option does not exist.
    """
    found = OURS.search(line)
    assert found
    words = shlex.split(found[1].partition(" | ")[0].partition(" > ")[0].removesuffix("…").strip(' ")'))
    command: click.Command = main
    context = click.Context(command, info_name="loading-bay", **command.context_settings)
    while True:
        _, words, _ = command.make_parser(context).parse_args(args=words)
        if not isinstance(command, click.Group) or not words:
            return words
        inner = command.get_command(context, words[0])
        if inner is None:
            raise click.UsageError(f"{context.command_path} lacks the command {words[0]}")
        context = click.Context(inner, info_name=words[0], parent=context)
        command, words = inner, words[1:]


@pytest.mark.parametrize(("page", "command"), of_ours())
def test_a_documented_loading_bay_command_exists(page: str, command: str) -> None:
    assert left_over(command) == []


def hinted() -> list[str]:
    """Every command that a message tells the user to run; a value known only at run time counts as one word."""
    found = set()
    for _, call in calls({"command"}):
        words = [each.value if isinstance(each, ast.Constant) else "VALUE" for each in call.args]
        if words and words[0] in COMMANDS and words[1:2] != ["VALUE"]:
            found.add(shlex.join([PROGRAM, *map(str, words)]))
    return sorted(found)


def calls(names: set[str]) -> Iterator[tuple[Path, ast.Call]]:
    """Every call of a function or method with one of these names, with its file."""
    for path in sorted((ROOT / "loading_bay").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names:
                yield path, node


@pytest.mark.parametrize("command", hinted())
def test_a_command_in_a_message_exists(command: str) -> None:
    left_over(command)


def test_a_message_leaves_the_name_of_a_command_to_the_hints() -> None:
    literal = [
        f"{path.name}:{call.lineno}"
        for path, call in calls({"UserError", "NotChecked", "print", "echo", "say"})
        for part in ast.walk(call)
        if isinstance(part, ast.Constant) and re.search(rf"\b({PROGRAM} [a-z]|make setup)", str(part.value))
    ]

    assert literal == []


@pytest.mark.parametrize(
    "command",
    [
        "loading-bay bach list",
        "loading-bay batch start --prefixes a/",
        "loading-bay model stage --out data/three",
        "loading-bay report --class-names a,b",
    ],
)
def test_an_unknown_loading_bay_command_is_noticed(command: str) -> None:
    with pytest.raises(click.UsageError):
        assert left_over(command) == []


def test_every_documented_make_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target for page in PAGES for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }

    assert named <= targets

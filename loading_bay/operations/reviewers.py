"""The people who may sign in to the pages: the members of the user pool's groups, reviewers and drivers."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from botocore.exceptions import ClientError

from functions.decisions.uploads import NAME
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

REVIEWERS = "reviewers"
DRIVERS = "drivers"
NAMES = {REVIEWERS: re.compile(r"[A-Za-z0-9._-]{1,64}"), DRIVERS: NAME}


@dataclass(frozen=True)
class Reviewer:
    """A person who may sign in; `password` is set if no mail is sent."""

    name: str
    email: str
    status: str
    password: str | None = None


def add_reviewer(deployed: Deployed, name: str, email: str, group: str = REVIEWERS) -> Reviewer:
    """Let a person sign in to their group's page.

    On AWS, Cognito mails a temporary password. The local AWS does not send mail, so there the password is permanent.

    Raises:
        UserError: the stack does not serve the page, or the name is invalid or taken.
    """
    pool = _pool(deployed)
    if not NAMES[group].fullmatch(name):
        dots = "dots, " if group == REVIEWERS else ""  # a driver's name is a folder's
        raise UserError(f"{name!r} is not a sign-in name: use 1 to 64 letters, digits, {dots}underscores and hyphens")
    cognito = deployed.client("cognito-idp")
    attributes = [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}]
    by_mail = deployed.endpoint_url is None
    try:
        cognito.admin_create_user(
            UserPoolId=pool,
            Username=name,
            UserAttributes=attributes,
            **({"DesiredDeliveryMediums": ["EMAIL"]} if by_mail else {"MessageAction": "SUPPRESS"}),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in {"UsernameExistsException", "AliasExistsException"}:
            raise UserError(f"someone named {name} or {email} can sign in already") from error
        raise
    cognito.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=group)
    if by_mail:
        return Reviewer(name, email, "FORCE_CHANGE_PASSWORD")
    password = f"Local-{secrets.token_urlsafe(9)}-1"
    cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=True)
    return Reviewer(name, email, "CONFIRMED", password)


def reviewers(deployed: Deployed, group: str = REVIEWERS) -> Iterator[Reviewer]:
    """Yield the members of a group.

    Raises:
        UserError: the stack does not serve the page.
    """
    pages = deployed.client("cognito-idp").get_paginator("list_users_in_group")
    for page in pages.paginate(UserPoolId=_pool(deployed), GroupName=group):
        for user in page["Users"]:
            attributes = {each["Name"]: each["Value"] for each in user["Attributes"]}
            yield Reviewer(user["Username"], attributes.get("email", ""), user["UserStatus"])


def remove_reviewer(deployed: Deployed, name: str, group: str = REVIEWERS) -> None:
    """Revoke a person's access; a running session ends within 15 minutes.

    Raises:
        UserError: the person is not in the group, or the stack does not serve the page.
    """
    cognito, pool = deployed.client("cognito-idp"), _pool(deployed)
    if name not in {each.name for each in reviewers(deployed, group)}:
        raise UserError(f"{name} is not one of the {group}; see {deployed.command(group, 'list')}")
    cognito.admin_user_global_sign_out(UserPoolId=pool, Username=name)
    cognito.admin_delete_user(UserPoolId=pool, Username=name)


def _pool(deployed: Deployed) -> str:
    if "ReviewersPool" not in deployed.outputs:
        raise UserError("this stack serves no page; deploy it with Pages=both")
    return deployed.outputs["ReviewersPool"]

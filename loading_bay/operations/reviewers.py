"""The people who may sign in to the review page: the members of a group in its user pool."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from botocore.exceptions import ClientError

from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

GROUP = "reviewers"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Reviewer:
    """A person who may review; `password` is set if no mail is sent."""

    name: str
    email: str
    status: str
    password: str | None = None


def add_reviewer(deployed: Deployed, name: str, email: str) -> Reviewer:
    """Let a person sign in to the review page.

    On AWS, Cognito mails a temporary password. The local AWS does not send mail, so there the password is permanent.

    Raises:
        UserError: the stack has no review page, or the name is not valid or taken.
    """
    pool = _pool(deployed)
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a sign-in name: use 1 to 64 letters, digits, dots, underscores and hyphens")
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
            raise UserError(f"a reviewer {name} or {email} already exists") from error
        raise
    cognito.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=GROUP)
    if by_mail:
        return Reviewer(name, email, "FORCE_CHANGE_PASSWORD")
    password = f"Local-{secrets.token_urlsafe(9)}-1"
    cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=True)
    return Reviewer(name, email, "CONFIRMED", password)


def reviewers(deployed: Deployed) -> Iterator[Reviewer]:
    """Yield everyone who may sign in.

    Raises:
        UserError: the stack has no review page.
    """
    pages = deployed.client("cognito-idp").get_paginator("list_users_in_group")
    for page in pages.paginate(UserPoolId=_pool(deployed), GroupName=GROUP):
        for user in page["Users"]:
            attributes = {each["Name"]: each["Value"] for each in user["Attributes"]}
            yield Reviewer(user["Username"], attributes.get("email", ""), user["UserStatus"])


def remove_reviewer(deployed: Deployed, name: str) -> None:
    """Revoke a person's access; a running session ends within 15 minutes.

    Raises:
        UserError: there is no such person, or the stack has no review page.
    """
    cognito, pool = deployed.client("cognito-idp"), _pool(deployed)
    try:
        cognito.admin_user_global_sign_out(UserPoolId=pool, Username=name)
        cognito.admin_delete_user(UserPoolId=pool, Username=name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "UserNotFoundException":
            raise UserError(f"there is no reviewer {name}; see {deployed.command('reviewers', 'list')}") from error
        raise


def _pool(deployed: Deployed) -> str:
    if "ReviewersPool" not in deployed.outputs:
        raise UserError("this stack has no review page; deploy it with ReviewPage=true")
    return deployed.outputs["ReviewersPool"]

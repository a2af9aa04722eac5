"""The local AWS's sign-in, where it differs from Cognito in a way that a person at the review page would notice."""

from typing import Any

from ministack.services import cognito


def keep_groups_when_refreshed() -> None:
    """Let the tokens that a refresh gives name the person's groups, as Cognito's do and MiniStack's (1.5.33) do not."""
    make_token = cognito._fake_token

    def with_groups(sub: str, pool: str, client: str, kind: str = "access", username: str = "", **more: Any) -> str:
        if more.get("trigger_source") == "TokenGeneration_RefreshTokens":
            more["groups"] = cognito._get_pool_unscoped(pool)["_users"][username].get("_groups", [])
        return str(make_token(sub, pool, client, kind, username, **more))

    cognito._fake_token = with_groups

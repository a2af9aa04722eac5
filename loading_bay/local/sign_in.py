"""Adapts the sign-in of the local AWS where a reviewer would notice a difference from Cognito."""

from ministack.services import cognito


def keep_groups_when_refreshed() -> None:
    """Add the person's groups to refreshed tokens, as on AWS; MiniStack (1.5.33) leaves them out."""
    make_token = cognito._fake_token

    def with_groups(sub: str, pool: str, client: str, kind: str = "access", username: str = "", **more: object) -> str:
        if more.get("trigger_source") == "TokenGeneration_RefreshTokens":
            more["groups"] = cognito._get_pool_unscoped(pool)["_users"][username].get("_groups", [])
        return str(make_token(sub, pool, client, kind, username, **more))

    cognito._fake_token = with_groups

"""Common parts of the pages: files, headers, access to the API, and request bodies."""

import base64
import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import BadRequestError, ForbiddenError, NotFoundError

SHARED = Path(__file__).parent / "page"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json; charset=utf-8",
}
Form = TypeVar("Form")


@dataclass(frozen=True)
class SignIn:
    """Where people sign in, the client and scope that their tokens must name, and the group that they must belong to.

    Without a `client_id` the tokens come from the operator's identity provider: API Gateway has checked issuer and
    audience, so only the scope is checked again.
    """

    url: str
    client_id: str
    scope: str
    group: str

    def user(self, app: APIGatewayHttpResolver) -> str:
        """Return the caller's name, even if API Gateway did not check the token.

        Raises:
            ForbiddenError: the token is not one of a person who may; the message says why.
        """
        context = app.current_event.raw_event.get("requestContext", {})
        claims: dict[str, Any] = context.get("authorizer", {}).get("jwt", {}).get("claims", {})
        name = str(claims.get("username") or ("" if self.client_id else claims.get("sub", "")))
        granted = self.scope in str(claims.get("scope", "")).split()
        if self.client_id:
            granted &= claims.get("token_use") == "access" and claims.get("client_id") == self.client_id
        if not granted or not name:
            raise ForbiddenError("sign in to this page")
        if self.client_id and self.group not in _groups(str(claims.get("cognito:groups", ""))):
            raise ForbiddenError(f"{name} is not in the group {self.group}")
        return name

    def headers(self, *reached: str) -> dict[str, str]:
        """Return the headers of every response.

        A page runs its own scripts and style, shows pictures that a script made, and talks to this API, to the sign-in
        and to the origins `reached`: nothing else, in no frame, and no text ever becomes markup.
        """
        policy = [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src blob:",
            " ".join(["connect-src 'self'", *filter(None, [self.url, *reached])]),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
        return {
            "Content-Security-Policy": "; ".join(policy),
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Referrer-Policy": "no-referrer",
            "Strict-Transport-Security": "max-age=31536000",
            "X-Content-Type-Options": "nosniff",
        }


def serve(app: APIGatewayHttpResolver, folder: Path, place: str, sign_in: SignIn) -> None:
    """Serve the page in `folder` at `place`, and below it the scripts, styles and texts, including the shared ones.

    The page's head holds the settings that its scripts need before anyone has signed in.
    """
    files = {path.name: path for each in (SHARED, folder) for path in each.iterdir() if path.suffix in TYPES}
    public = {"signIn": sign_in.url, "clientId": sign_in.client_id, "scope": sign_in.scope}

    @app.get(place or "/")
    def page() -> Response[str]:
        text = (folder / "index.html").read_text("utf-8").replace("{settings}", html.escape(json.dumps(public)))
        return Response(200, "text/html; charset=utf-8", text)

    @app.get(f"{place}/<name>")
    def asset(name: str) -> Response[str]:
        if name not in files:
            raise NotFoundError("this page does not exist")
        return Response(200, TYPES[files[name].suffix], files[name].read_text("utf-8"))


def guarded(
    sign_in: SignIn,
    refusals: Mapping[type[Exception], int],
    about: Callable[[Exception], dict[str, object]] | None = None,
) -> list[Callable[..., Any]]:
    """Return the middlewares that admit a signed-in person's requests, and explain each refusal.

    `refusals` are the kinds of error that have a status; `about` adds to their answers.
    """

    def check(app: APIGatewayHttpResolver, next_middleware: Callable[..., Any]) -> Any:
        sign_in.user(app)
        try:
            return next_middleware(app)
        except tuple(refusals) as error:
            body = json.dumps({"message": str(error)} | (about(error) if about else {}))
            return Response(refusals[type(error)], "application/json", body)

    return [check]


def body_of(app: APIGatewayHttpResolver, form: type[Form]) -> Form:
    """Return the body of a request.

    Raises:
        BadRequestError: the body does not have this form.
    """
    body = app.current_event.body or ""
    try:
        content = base64.b64decode(body) if app.current_event.is_base64_encoded else body.encode()
        return msgspec.json.decode(content, type=form)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not valid JSON for this call: {error}") from error


def _groups(claim: str) -> list[str]:
    """Return the groups of a claim as API Gateway writes it, `[one two]`; a name may hold brackets but not spaces."""
    return (claim[1:-1] if claim.startswith("[") and claim.endswith("]") else claim).split(" ")

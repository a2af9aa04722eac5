"""Signs a reviewer in with the requests of a browser, but without one, and calls the page's API."""

import base64
import hashlib
import html
import json
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from loading_bay.local.stack import Stack
from loading_bay.operations.reviewers import Reviewer


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: their address contains the code."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class ReviewApi:
    """The review page's API in a deployed stack, called with or without a token."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.outputs["ReviewUrl"]
        self.sign_in_url = stack.sign_in_url
        self.pool = stack.outputs["ReviewersPool"]
        self.cognito = stack.client("cognito-idp")
        page = self._send(urllib.request.Request(self.url))[1].decode()  # noqa: S310 - a loopback address
        (settings,) = re.findall(r'<meta name="settings" content="([^"]*)">', page)
        self.client_id: str = json.loads(html.unescape(settings))["clientId"]

    def tokens(self, person: Reviewer, *, client_id: str | None = None) -> dict[str, str]:
        """Return the tokens of a sign-in: `access_token`, `refresh_token`."""
        client_id, verifier = client_id or self.client_id, secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        asked = {
            "client_id": client_id,
            "response_type": "code",
            "redirect_uri": self.url,
            "scope": "review/decide",
            "state": "1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        form = asked | {"username": person.name, "password": person.password, "nonce": ""}
        _, _, headers = self._post_form("/login", form)
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(headers["location"]).query)["code"][0]
        grant = {"grant_type": "authorization_code", "client_id": client_id, "code": code}
        _, body, _ = self._post_form("/oauth2/token", grant | {"redirect_uri": self.url, "code_verifier": verifier})
        answer: dict[str, str] = json.loads(body)
        return answer

    def refreshed(self, refresh_token: str) -> str:
        """Return the access token from a refresh."""
        grant = {"grant_type": "refresh_token", "client_id": self.client_id, "refresh_token": refresh_token}
        return str(json.loads(self._post_form("/oauth2/token", grant)[1])["access_token"])

    def call(self, name: str, body: object, token: str | None) -> tuple[int, dict[str, Any]]:
        """Call the API; return status and answer, which is empty for a picture."""
        request = urllib.request.Request(f"{self.url}api/{name}", json.dumps(body).encode(), method="POST")  # noqa: S310
        request.add_header("content-type", "application/json")
        if token is not None:
            request.add_header("authorization", f"Bearer {token}")
        status, content, headers = self._send(request)
        is_json = headers["content-type"].startswith("application/json")
        return status, json.loads(content) if is_json else {}

    def _post_form(self, path: str, form: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        data = urllib.parse.urlencode(form).encode()
        return self._send(urllib.request.Request(self.sign_in_url + path, data))  # noqa: S310 - as above

    def _send(self, request: urllib.request.Request) -> tuple[int, bytes, dict[str, str]]:
        # Every browser, but not every resolver, resolves names below localhost to this machine.
        split = urllib.parse.urlsplit(request.full_url)
        request.add_header("Host", split.netloc)
        request.full_url = split._replace(netloc=f"127.0.0.1:{split.port}").geturl()
        try:
            with urllib.request.build_opener(NoRedirect).open(request, timeout=180) as answer:
                return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, error.read(), {name.lower(): value for name, value in error.headers.items()}


def changed(token: str, **claims: object) -> str:
    """Return the token with other claims under its old signature."""
    header, payload, signature = token.split(".")
    return f"{header}.{_encode(_decode(payload) | claims)}.{signature}"


def unsigned(token: str, **claims: object) -> str:
    """Return the token with other claims and the algorithm `none`."""
    header, payload, _ = token.split(".")
    return f"{_encode(_decode(header) | {'alg': 'none'})}.{_encode(_decode(payload) | claims)}."


def _decode(part: str) -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

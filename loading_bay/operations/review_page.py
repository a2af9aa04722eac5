"""Visits the review page without signing in: the page opens, its API refuses the visitor, and the sign-in answers."""

import html
import json
import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import urllib3

from loading_bay.stack.errors import UserError

SETTINGS = re.compile(r'<meta name="settings" content="([^"]*)">')
# The digest of a discarded secret: this sign-in is never completed.
CHALLENGE = "x" * 43
SECONDS = 60
REFUSED = 401


def visit(url: str) -> str:
    """Fetch the page, call its API without a token, and follow the sign-in to its page; return a summary.

    Raises:
        UserError: the page is unavailable, the call is not refused, or the sign-in fails.
    """
    page = _request("GET", url)
    found = SETTINGS.search(page.data.decode(errors="replace"))
    if page.status != 200 or not found:
        raise UserError(f"the review page {url} answers {page.status}{'' if found else ' without its settings'}")
    call = _request("POST", f"{url}api/queue", body=b"{}", headers={"content-type": "application/json"})
    if call.status != REFUSED:
        raise UserError(f"the review page answers a stranger's call with {call.status}, not {REFUSED}")
    settings = json.loads(html.unescape(found[1]))
    asked = {
        "response_type": "code",
        "client_id": settings["clientId"],
        "redirect_uri": url,
        "scope": settings["scope"],
        "state": "check",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    sign_in = _request("GET", f"{settings['signIn']}/oauth2/authorize?{urlencode(asked)}", redirect=True)
    place = urlsplit(sign_in.geturl() or "")
    if sign_in.status != 200 or place.path.startswith("/error"):
        raise UserError(
            f"the sign-in answers {sign_in.status} at {place.path}: is {url} a callback of the pool's client, "
            "and does the client have a managed login style?"
        )
    return f"{url} opens, refuses a stranger, and leads to its sign-in"


def _request(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    redirect: bool = False,
) -> urllib3.BaseHTTPResponse:
    split = urlsplit(url)
    sent = dict(headers or {})
    if (split.hostname or "").endswith(".localhost"):  # this machine to every browser, but not to every resolver
        sent["Host"] = split.netloc
        url = split._replace(netloc=f"127.0.0.1:{split.port}").geturl()
    try:
        return urllib3.request(method, url, body=body, headers=sent, redirect=redirect, timeout=SECONDS)
    except urllib3.exceptions.HTTPError as error:
        raise UserError(f"{split.netloc} does not answer: {error}") from error

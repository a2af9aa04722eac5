// @ts-check
// Signs a person in by the Cognito code flow, with PKCE, and calls the API as that person.
//
// The access token is kept only in this module's memory. The refresh token is in the tab's session storage: it survives
// a reload, and disappears when the tab closes or the person signs out. This module does not depend on any call.

/** @typedef {{ signIn: string, clientId: string, scope: string }} Settings */

/** The session has ended: the tokens are gone or refused. */
export class SignedOut extends Error {}

/** The person returned from the sign-in without being signed in; the message gives the reason. */
export class SignInFailed extends Error {}

/** The server is unreachable or busy; a retry may succeed. */
export class Unreachable extends Error {}

/** The server refuses a call; the message gives the reason. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const QUESTION = 'sign-in'; // session storage: this tab's pending request to the sign-in
const REFRESH = 'refresh';
const EARLY_MS = 30_000; // a token is renewed this long before it expires
const TIMEOUT_MS = 30_000;

// The sign-in puts its error text into the page's address. A stranger's link can hold any text there, so it is not shown.
const FAILURES = new Map([
  ['access_denied', 'The sign-in was cancelled, or your account does not have access.'],
  ['temporarily_unavailable', 'The sign-in is busy. Try again in a minute.'],
]);
const FAILED = 'The sign-in did not succeed. Try again, or ask your operator.';

export class Session {
  #settings;
  #home = location.origin + location.pathname;
  #token = '';
  #tokenEnds = 0;
  /** @type {Promise<void> | null} */
  #renewing = null;

  /** @param {Settings} settings */
  constructor(settings) {
    this.#settings = settings;
  }

  /** The name of the person who is signed in, or an empty string. */
  get user() {
    return this.#token ? nameIn(this.#token) : '';
  }

  /**
   * Resolve once somebody is signed in: by the sign-in's answer in the page's address, or by the session before a
   * reload. Otherwise the browser leaves for the sign-in.
   *
   * @throws {SignInFailed} The sign-in answered with an error, or its answer is not valid any more.
   * @throws {Unreachable}
   */
  async begin() {
    const answer = new URLSearchParams(location.search);
    const question = JSON.parse(sessionStorage.getItem(QUESTION) ?? 'null');
    sessionStorage.removeItem(QUESTION);
    history.replaceState(null, '', this.#home);
    // Only an answer to this tab's own request counts; a link from elsewhere cannot know its `state`.
    if (question && question.state === answer.get('state')) await this.#signedIn(answer, question.verifier);
    else await this.#resume();
  }

  /** Go to the sign-in. */
  async signIn() {
    const verifier = secret();
    const state = secret();
    sessionStorage.setItem(QUESTION, JSON.stringify({ verifier, state }));
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier));
    const asked = new URLSearchParams({
      response_type: 'code',
      client_id: this.#settings.clientId,
      redirect_uri: this.#home,
      scope: this.#settings.scope,
      state,
      code_challenge: base64url(new Uint8Array(digest)),
      code_challenge_method: 'S256',
    });
    location.assign(`${this.#settings.signIn}/oauth2/authorize?${asked}`);
    await new Promise(() => {}); // the browser leaves this page
  }

  /** Discard the tokens, revoke them at the sign-in, and leave. */
  signOut() {
    const client = { client_id: this.#settings.clientId };
    const token = sessionStorage.getItem(REFRESH);
    sessionStorage.removeItem(REFRESH);
    this.#token = '';
    if (token) {
      const body = new URLSearchParams({ ...client, token });
      fetch(`${this.#settings.signIn}/oauth2/revoke`, { method: 'POST', body, keepalive: true }).catch(() => {});
    }
    location.assign(`${this.#settings.signIn}/logout?${new URLSearchParams({ ...client, logout_uri: this.#home })}`);
  }

  /**
   * Call the page's API, by POST with a JSON body or else by GET; returns its answer.
   *
   * @param {string} path
   * @param {unknown} [body]
   * @param {'json' | 'blob'} form
   * @throws {Refused}
   * @throws {SignedOut}
   * @throws {Unreachable}
   */
  async call(path, body, form = 'json') {
    for (let renewed = false; ; renewed = true) {
      if (renewed || Date.now() > this.#tokenEnds) await this.#renew();
      const headers = { authorization: `Bearer ${this.#token}`, 'content-type': 'application/json' };
      const method = body === undefined ? 'GET' : 'POST';
      const answer = await reach(path, { method, headers, body: JSON.stringify(body) });
      if (answer.ok) return await answer[form]().catch(lost);
      if (answer.status !== 401) {
        const { message } = await answer.json().catch(() => ({}));
        throw new Refused(answer.status, message ?? `the server answered ${answer.status}`);
      }
      if (renewed) throw new SignedOut();
    }
  }

  /** @param {URLSearchParams} answer @param {string} verifier */
  async #signedIn(answer, verifier) {
    const code = answer.get('code');
    if (!code) throw new SignInFailed(FAILURES.get(answer.get('error') ?? '') ?? FAILED);
    const grant = { grant_type: 'authorization_code', code, redirect_uri: this.#home, code_verifier: verifier };
    await this.#grant(grant).catch((error) => {
      throw error instanceof SignedOut ? new SignInFailed(FAILED) : error;
    });
  }

  async #resume() {
    try {
      await this.#renew();
    } catch (error) {
      if (!(error instanceof SignedOut)) throw error;
      await this.signIn();
    }
  }

  /** Get a new access token, once for all calls that found the old one expired. */
  #renew() {
    this.#renewing ??= this.#refresh().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  async #refresh() {
    const token = sessionStorage.getItem(REFRESH);
    if (!token) throw new SignedOut();
    await this.#grant({ grant_type: 'refresh_token', refresh_token: token });
  }

  /** @param {Record<string, string>} grant */
  async #grant(grant) {
    const body = new URLSearchParams({ client_id: this.#settings.clientId, ...grant });
    const answer = await reach(`${this.#settings.signIn}/oauth2/token`, { method: 'POST', body });
    if (!answer.ok) {
      sessionStorage.removeItem(REFRESH);
      this.#token = '';
      throw new SignedOut();
    }
    const got = await answer.json();
    this.#token = got.access_token;
    this.#tokenEnds = Date.now() + 1000 * got.expires_in - EARLY_MS;
    if (got.refresh_token) sessionStorage.setItem(REFRESH, got.refresh_token);
  }
}

/** @returns {never} */
function lost() {
  throw new Unreachable('Not connected.');
}

/**
 * Fetch, and report every temporary problem as one kind of error.
 *
 * @param {string} url
 * @param {RequestInit} request
 * @param {number} [milliseconds] Timeout of the answer.
 * @throws {Unreachable}
 */
export async function reach(url, request, milliseconds = TIMEOUT_MS) {
  let answer;
  try {
    answer = await fetch(url, { ...request, signal: AbortSignal.timeout(milliseconds) });
  } catch {
    return lost();
  }
  if (answer.status === 429 || answer.status >= 500) throw new Unreachable('The server is busy.');
  return answer;
}

/** @param {Uint8Array} bytes */
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');

const secret = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/**
 * Return the name of the person that an access token is for. It comes from the sign-in itself; the API checks it.
 *
 * @param {string} token
 * @returns {string}
 */
function nameIn(token) {
  const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
  const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes)).username;
}

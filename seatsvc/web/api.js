// The calls. The tokens never leave this module, and no storage ever sees them.

import { language } from "./texts.js";

const REFRESH_EARLY_MS = 30_000;

/** A refusal, or a server that cannot be reached (`code` is then "network"). */
export class Problem extends Error {
  constructor(status, data) {
    super(data.detail ?? data.title ?? data.code);
    this.status = status;
    this.code = data.code;
    this.detail = data.detail;
    this.data = data;
  }
}

let tokens = null; // {access, refresh, freshUntil}
let refreshing = null;

class Session extends EventTarget {
  user = null;

  /** Raises Problem. */
  async signIn(username, password) {
    keep(await json(await send("POST", "/auth/login", { body: { username, password } })));
    await this.reload();
  }

  async signOut() {
    try {
      if (tokens) await api.post("/auth/logout");
    } catch {
      // The tokens are forgotten here in any case.
    }
    this.forget();
  }

  /** Ask who the user is, after a change of the account. */
  async reload() {
    this.#is(await api.get("/me"));
  }

  /** The session has ended. */
  forget() {
    tokens = null;
    this.#is(null);
  }

  #is(user) {
    this.user = user;
    this.dispatchEvent(new Event("change"));
  }
}

export const session = new Session();

export const api = {
  get: (path, { signal } = {}) => call("GET", path, { signal }),
  post: (path, body, { key } = {}) => call("POST", path, { body, key }),
  patch: (path, body) => call("PATCH", path, { body }),
  del: (path, body) => call("DELETE", path, { body }),
  /** The answer's bytes, in this media type. */
  async text(path, { accept }) {
    return (await authorized("GET", path, { accept })).blob();
  },
};

async function call(method, path, options) {
  return json(await authorized(method, path, options));
}

async function authorized(method, path, options) {
  if (tokens && Date.now() > tokens.freshUntil) await refresh();
  const used = tokens;
  try {
    return await send(method, path, options);
  } catch (problem) {
    if (!used || problem.status !== 401 || problem.code !== "invalid_token") throw problem;
  }
  if (tokens === used) await refresh();
  return send(method, path, options);
}

async function send(method, path, { body, key, accept, signal } = {}) {
  const headers = { Accept: accept ?? "application/json", "Accept-Language": language() };
  if (tokens) headers.Authorization = `Bearer ${tokens.access}`;
  if (key) headers["Idempotency-Key"] = key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "network", detail: error.message });
  }
  if (!answer.ok) throw new Problem(answer.status, await refusal(answer));
  return answer;
}

async function refusal(answer) {
  try {
    return await answer.json();
  } catch {
    return { code: "unavailable", detail: answer.statusText };
  }
}

async function json(answer) {
  return answer.status === 204 || answer.status === 202 ? null : answer.json();
}

// One at a time: a refresh token that is used twice ends its session.
function refresh() {
  refreshing ??= renew().finally(() => (refreshing = null));
  return refreshing;
}

async function renew() {
  const body = { refresh_token: tokens.refresh };
  try {
    keep(await json(await send("POST", "/auth/refresh", { body })));
  } catch (problem) {
    if (problem.status === 401) session.forget();
    throw problem;
  }
}

function keep(pair) {
  const freshUntil = Date.now() + pair.expires_in * 1000 - REFRESH_EARLY_MS;
  tokens = { access: pair.access_token, refresh: pair.refresh_token, freshUntil };
}

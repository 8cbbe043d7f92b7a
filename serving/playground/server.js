// The way to the server. Addresses are relative to the page, so that a path in front of it does not matter.

/** What the server refused: a problem document (RFC 9457), or what can be said without one. */
export class Refusal extends Error {
  constructor(problem, status, facts) {
    super(problem.title);
    Object.assign(this, { problem, status, facts });
  }
}

export const addressOf = (path) => new URL(`.${path}`, document.baseURI).href;

/** The answer's Response. Refusal when the server cannot be reached or refuses; AbortError when the signal says so. */
export async function ask(path, { key, type, ...options } = {}) {
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(type && { "Content-Type": type }) };
  let response;
  try {
    response = await fetch(addressOf(path), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const detail = "It is not running, this device has no way to it, or it hung up while it was being asked.";
    throw new Refusal({ title: "The server cannot be reached", detail, remedy: "See that it runs, then send again." });
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function refusalOf(response) {
  const { status, headers } = response;
  const told = await response.json().catch(() => ({}));
  const problem = told.error?.message ? { code: told.error.code, detail: told.error.message } : told; // OpenAI's shape
  const waitS = headers.get("retry-after");
  const requestId = headers.get("x-request-id");
  const facts = [`HTTP ${status}`];
  if (problem.code) facts.push(problem.code);
  if (waitS) facts.push(`try again in ${waitS} s`);
  if (requestId) facts.push(`request ${requestId}`);
  return new Refusal({ title: response.statusText || `HTTP ${status}`, ...problem }, status, facts);
}

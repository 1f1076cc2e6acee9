// The server's HTTP interface. All addresses are relative to the page, so that it also works behind
// a proxy that serves it under a path.

import { readEvents } from "./events.js";

/** What the server, or the way to it, answered instead of a result. The message is for users. */
export class ApiError extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds, or null
  }
}

/** Returns the JSON at a path of the server. */
export async function getJson(path, key) {
  const response = await request(path, { headers: headers(key) });
  return response.json();
}

/** Yields the chunks of a streamed chat completion. Aborting the signal raises an AbortError. */
export async function* streamChat(body, key, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { ...headers(key), "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let whole = false;
  try {
    for await (const data of readEvents(response.body)) {
      whole = data === "[DONE]";
      if (whole) continue; // to the end of the response, so that its connection can be used again
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, { status: chunk.error.code });
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
  }
  if (!whole) throw new ApiError("The connection ended before the answer was complete.");
}

function headers(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function request(path, options) {
  // Without a key of the page, the browser sends the one that it asked its user for, if any.
  const credentials = options.headers.Authorization ? "omit" : "same-origin";
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, credentials });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error instanceof TypeError && /header|ByteString/i.test(error.message))
      throw new ApiError("The API key has characters that cannot be sent.");
    throw new ApiError("The server cannot be reached.");
  }
  if (response.ok) return response;
  throw await errorOf(response, options.headers.Authorization !== undefined);
}

async function errorOf(response, withKey) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  const answer = await response.json().catch(() => null);
  let message = answer?.error?.message;
  if (response.status === 401)
    message = withKey ? "The server does not know this API key." : "The server wants an API key.";
  if (typeof message !== "string" || !message)
    message = `The server answered with status ${response.status}.`;
  if (response.status === 429 && retryAfter) message += ` Try again in ${retryAfter} s.`;
  return new ApiError(message, { status: response.status, retryAfter });
}

// @ts-check
/** The public API of the server that the page came from: its models, and its replies as they are written. */

import { eventsOf } from "./sse.js";

/**
 * @typedef {{ name: string, arguments: string, id?: string }} ToolCall
 * @typedef {{ content?: string, reasoning?: string, calls?: CallDelta[], usage?: Usage, end?: string }} Piece
 * @typedef {{ index?: number, id?: string, function?: { name?: string, arguments?: string } }} CallDelta
 * @typedef {{ prompt_tokens?: number, completion_tokens?: number }} Usage
 */

/** Something that the server, or the way to it, refused; `kind` is a key of the texts, `message` the server's words. */
export class ApiError extends Error {
  /**
   * @param {"unreachable" | "refused" | "key" | "cut" | "odd"} kind
   * @param {string} [message]
   * @param {number} [status]
   */
  constructor(kind, message = "", status = 0) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

/**
 * Names of the models, in the server's order.
 * @param {string} key
 * @param {AbortSignal} [signal]
 * @returns {Promise<string[]>}
 */
export async function listModels(key, signal) {
  const response = await ask("models", key, { signal });
  const list = await response.json().catch(() => null);
  if (!Array.isArray(list?.data)) throw new ApiError("odd");
  return list.data.map((/** @type {any} */ model) => String(model?.id)).filter(Boolean);
}

/**
 * The reply to a request, piece by piece; it must have an end, or the connection was lost.
 * @param {Record<string, unknown>} body
 * @param {string} key
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Piece>}
 */
export async function* streamChat(body, key, signal) {
  const response = await begin(body, key, signal);
  if (!response.headers.get("content-type")?.includes("text/event-stream")) {
    yield* whole(await response.json().catch(() => null));
    return;
  }
  let ended = false;
  try {
    for await (const data of eventsOf(/** @type {ReadableStream} */ (response.body))) {
      if (data === "[DONE]") return;
      const chunk = parsed(data);
      if (chunk?.error) throw new ApiError("refused", sentenceOf(chunk, 0));
      const choice = chunk?.choices?.[0];
      ended ||= Boolean(choice?.finish_reason);
      if (choice || chunk?.usage) yield pieceOf(choice?.delta, choice?.finish_reason, chunk.usage);
    }
  } catch (error) {
    if (error instanceof ApiError || signal.aborted) throw error;
    throw new ApiError("cut");
  }
  if (!ended) throw new ApiError("cut");
}

/** Servers that know no usage in streams refuse the question for it; they are asked again without. */
let usageOffered = true;

/**
 * @param {Record<string, unknown>} body
 * @param {string} key
 * @param {AbortSignal} signal
 */
async function begin(body, key, signal) {
  const post = (/** @type {object} */ more) =>
    ask("chat/completions", key, { method: "POST", signal, body: JSON.stringify({ ...body, stream: true, ...more }) });
  if (!usageOffered) return post({});
  try {
    return await post({ stream_options: { include_usage: true } });
  } catch (error) {
    const refused = error instanceof ApiError && [400, 422].includes(error.status);
    if (!refused || !/stream_options|include_usage/.test(error.message)) throw error;
    usageOffered = false;
    return post({});
  }
}

/**
 * @param {string} path
 * @param {string} key
 * @param {RequestInit} init
 */
async function ask(path, key, init) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (init.body) headers["content-type"] = "application/json";
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(`v1/${path}`, { ...init, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("unreachable");
  }
  if (response.ok) return response;
  const kind = response.status === 401 ? "key" : response.status === 502 ? "unreachable" : "refused";
  throw new ApiError(kind, sentenceOf(parsed(await response.text()), response.status), response.status);
}

/**
 * @param {any} delta
 * @param {string | null | undefined} end
 * @param {Usage | null | undefined} usage
 * @returns {Piece}
 */
function pieceOf(delta, end, usage) {
  return {
    content: delta?.content || undefined,
    reasoning: delta?.reasoning_content || delta?.reasoning || undefined,
    calls: delta?.tool_calls || undefined,
    usage: usage || undefined,
    end: end || undefined,
  };
}

/**
 * A reply of a server that does not stream.
 * @param {any} reply
 * @returns {Generator<Piece>}
 */
function* whole(reply) {
  const choice = reply?.choices?.[0];
  if (!choice?.message) throw new ApiError("odd");
  const calls = choice.message.tool_calls?.map((/** @type {any} */ call, /** @type {number} */ index) => ({ ...call, index }));
  yield pieceOf({ ...choice.message, tool_calls: calls }, choice.finish_reason ?? "stop", reply.usage);
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * What a server says went wrong, in whichever of the usual places.
 * @param {any} body
 * @param {number} status
 */
function sentenceOf(body, status) {
  const said = body?.error?.message ?? body?.message ?? body?.error ?? body?.detail;
  return typeof said === "string" && said ? said.slice(0, 2000) : status ? `HTTP ${status}.` : "";
}

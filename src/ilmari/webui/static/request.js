// @ts-check
/** A conversation as the body of a request. */

import { chosenFields, settings } from "./settings.js";

/** @typedef {import("./store.js").Message} Message */

/**
 * @param {Message[]} messages
 * @param {string} model
 * @returns {Record<string, unknown>}
 */
export function requestOf(messages, model) {
  const system = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  return { ...(model && { model }), messages: [...system, ...messages.flatMap((message, at) => turnOf(message, messages, at))], ...chosenFields() };
}

/**
 * A message as the API has it; what was never said is left out.
 * @param {Message} message
 * @param {Message[]} messages
 * @param {number} at
 * @returns {object[]}
 */
function turnOf(message, messages, at) {
  if (message.role === "tool") return [{ role: "tool", tool_call_id: message.callId, content: message.content }];
  const calls = answered(message, messages, at) ? message.calls : undefined;
  if (message.role === "assistant" && !message.content && !calls) return [];
  if (!calls) return [{ role: message.role, content: message.content }];
  const tool_calls = calls.map(({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } }));
  return [{ role: "assistant", content: message.content || null, tool_calls }];
}

/** Whether a message has calls and each has its result: servers take no others. @param {Message} message  @param {Message[]} messages  @param {number} at */
function answered(message, messages, at) {
  const calls = message.calls ?? [];
  return calls.length > 0 && calls.every((_, index) => messages[at + 1 + index]?.role === "tool");
}

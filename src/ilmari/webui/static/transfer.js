// @ts-check
/** Conversations as a file that can be kept, read by people, and brought back. */

import * as store from "./store.js";

const FORMAT = "ilmari-conversations";
const ROLES = ["user", "assistant", "tool"];
const STATES = ["stopped", "length", "failed"];

/**
 * Everything as JSON text.
 * @returns {Promise<string>}
 */
export async function exported() {
  const conversations = [];
  for (const { id, ...head } of await store.listConversations()) {
    conversations.push({ ...head, messages: await store.loadMessages(id) });
  }
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

/**
 * Adds the conversations of an exported text; those that are there stay as they are.
 * @param {string} text
 * @returns {Promise<number>} how many were added
 * @throws {TypeError} if it is no such text; then nothing is added
 */
export async function importFrom(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new TypeError("no JSON");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) throw new TypeError("no conversations");
  const checked = file.conversations.map(conversationOf);
  for (const [head, messages] of checked) await store.addConversation(head, messages);
  return checked.length;
}

/**
 * @param {any} entry
 * @returns {[store.Conversation, store.Message[]]}
 */
function conversationOf(entry) {
  if (!Array.isArray(entry?.messages)) throw new TypeError("a conversation has no messages");
  const time = (/** @type {unknown} */ value) => (Number.isFinite(value) ? Number(value) : Date.now());
  const head = {
    id: store.newId(),
    title: text(entry.title),
    created: time(entry.created),
    updated: time(entry.updated),
  };
  return [head, entry.messages.map(messageOf)];
}

/**
 * A message of the fields that the page knows, each of its type.
 * @param {any} entry
 * @returns {store.Message}
 */
function messageOf(entry) {
  if (!ROLES.includes(entry?.role)) throw new TypeError("a message has no role");
  /** @type {store.Message} */
  const message = { role: entry.role, content: text(entry.content) };
  if (entry.reasoning) message.reasoning = text(entry.reasoning);
  if (entry.model) message.model = text(entry.model);
  if (entry.callId) message.callId = text(entry.callId);
  if (STATES.includes(entry.state)) message.state = entry.state;
  if (entry.error) message.error = { kind: text(entry.error.kind), said: text(entry.error.said) };
  if (Array.isArray(entry.calls)) {
    message.calls = entry.calls.map((/** @type {any} */ call) => ({
      id: text(call?.id),
      name: text(call?.name),
      arguments: text(call?.arguments),
    }));
  }
  const { tokens, first, rate, exact } = entry.stats ?? {};
  if (Number.isFinite(tokens) && Number.isFinite(first)) {
    message.stats = { tokens, first, rate: Number.isFinite(rate) ? rate : null, exact: exact === true };
  }
  return message;
}

/** @param {unknown} value */
const text = (value) => (typeof value === "string" ? value : "");

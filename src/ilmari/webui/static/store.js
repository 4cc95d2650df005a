// @ts-check
/** Conversations in the browser's own database: heads in one table, messages in another, each written alone. */

/**
 * @typedef {{ id: string, title: string, created: number, updated: number }} Conversation
 * @typedef {import("./api.js").ToolCall} ToolCall
 * @typedef {{ tokens: number, exact: boolean, first: number, rate: number | null }} Stats  first: seconds to the first token
 * @typedef {{
 *   role: "user" | "assistant" | "tool", content: string, reasoning?: string, calls?: ToolCall[], callId?: string,
 *   model?: string, stats?: Stats, state?: "stopped" | "length" | "failed", error?: { kind: string, said: string },
 * }} Message
 */

const NAME = "ilmari";
const MESSAGES = "messages";
const HEADS = "conversations";

/** A new conversation's id; browsers have `randomUUID` only where the page came over a safe way. */
export const newId = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(HEADS, { keyPath: "id" });
      request.result.createObjectStore(MESSAGES); // by [conversation, position]
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/**
 * Runs `work` in a transaction and waits until it is on disk; the result is that of the request which `work` returns.
 * @param {IDBTransactionMode} mode
 * @param {(heads: IDBObjectStore, messages: IDBObjectStore) => IDBRequest | void} work
 * @returns {Promise<any>}
 */
async function transact(mode, work) {
  const transaction = (await database()).transaction([HEADS, MESSAGES], mode);
  const request = work(transaction.objectStore(HEADS), transaction.objectStore(MESSAGES));
  transaction.commit(); // else a page that is left at once, before its requests are answered, loses what it wrote
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

/**
 * @param {string} id
 * @param {number} [from]
 */
const range = (id, from = 0) => IDBKeyRange.bound([id, from], [id, Infinity]);

/**
 * All conversations, the latest first.
 * @returns {Promise<Conversation[]>}
 */
export async function listConversations() {
  const heads = await transact("readonly", (heads) => heads.getAll());
  return heads.sort((/** @type {Conversation} */ a, /** @type {Conversation} */ b) => b.updated - a.updated);
}

/**
 * @param {string} id
 * @returns {Promise<Message[]>}
 */
export const loadMessages = (id) => transact("readonly", (_, messages) => messages.getAll(range(id)));

/** @param {Conversation} conversation */
export const saveConversation = (conversation) => transact("readwrite", (heads) => heads.put(conversation));

/**
 * @param {string} id
 * @param {number} position
 * @param {Message} message
 */
export const saveMessage = (id, position, message) =>
  transact("readwrite", (_, messages) => messages.put(message, [id, position]));

/**
 * Forgets the messages from a position on.
 * @param {string} id
 * @param {number} position
 */
export const dropMessages = (id, position) => transact("readwrite", (_, messages) => messages.delete(range(id, position)));

/** @param {string} id */
export const deleteConversation = (id) =>
  transact("readwrite", (heads, messages) => {
    heads.delete(id);
    messages.delete(range(id));
  });

/**
 * Adds a conversation with all its messages at once.
 * @param {Conversation} conversation
 * @param {Message[]} list
 */
export const addConversation = (conversation, list) =>
  transact("readwrite", (heads, messages) => {
    heads.put(conversation);
    list.forEach((message, position) => messages.put(message, [conversation.id, position]));
  });

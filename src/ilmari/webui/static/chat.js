// @ts-check
/** The conversation that is open, and every reply that is being written, in it or in another. */

import { ApiError, streamChat } from "./api.js";
import { Meter } from "./meter.js";
import { requestOf } from "./request.js";
import { settings } from "./settings.js";
import * as store from "./store.js";

/**
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {import("./store.js").Message} Message
 * @typedef {{ messages: Message[], reply: Message, abort: AbortController }} Run
 * @typedef {{
 *   opened(): void, added(message: Message): void, dropped(from: number): void, grown(message: Message): void,
 *   ended(message: Message): void, listed(): void, unkept(): void,
 * }} Watcher  what happened to the open conversation, to the list of all, and to the storage
 */

const SAVE_EVERY_MS = 1000;
const TITLE_CHARS = 60;

export class Chat {
  /** @param {Watcher} watcher */
  constructor(watcher) {
    this.watcher = watcher;
    /** @type {Conversation | null} */
    this.conversation = null;
    /** @type {Message[]} */
    this.messages = [];
    /** By conversation. @type {Map<string, Run>} */
    this.runs = new Map();
  }

  /** The reply that is being written here. */
  get running() {
    return this.conversation ? this.runs.get(this.conversation.id) : undefined;
  }

  /** Opens a conversation, or with null an empty one. @param {Conversation | null} conversation */
  async open(conversation) {
    this.opening = conversation;
    const kept = conversation ? await this.kept(store.loadMessages(conversation.id), []) : [];
    if (this.opening !== conversation) return; // another was chosen while this one was read
    this.conversation = conversation;
    this.messages = (conversation && this.runs.get(conversation.id)?.messages) ?? kept;
    this.watcher.opened();
  }

  /** @param {string} text */
  async send(text) {
    if (this.running) return;
    if (!this.conversation) {
      const now = Date.now();
      this.conversation = { id: store.newId(), title: titleOf(text), created: now, updated: now };
    }
    this.add({ role: "user", content: text });
    await this.answer();
  }

  /** Writes the last reply anew. */
  async regenerate() {
    if (this.running) return;
    while (this.messages.at(-1)?.role === "assistant") this.drop(this.messages.length - 1);
    await this.answer();
  }

  /** Changes what the reader said, and answers that. @param {Message} message  @param {string} text */
  async edit(message, text) {
    this.stop();
    this.drop(this.messages.indexOf(message));
    this.add({ role: "user", content: text });
    await this.answer();
  }

  /** Gives the results of the calls in the last reply. @param {Message} message  @param {string[]} results */
  async giveResults(message, results) {
    if (this.running) return;
    this.drop(this.messages.indexOf(message) + 1);
    message.calls?.forEach((call, index) => this.add({ role: "tool", content: results[index], callId: call.id }));
    await this.answer();
  }

  /** Ends the reply that is being written here. */
  stop() {
    this.running?.abort.abort();
  }

  /** @param {string} title */
  async rename(/** @type {Conversation} */ conversation, title) {
    conversation.title = title;
    if (this.conversation?.id === conversation.id) this.conversation.title = title;
    await this.kept(store.saveConversation(conversation));
    this.watcher.listed();
  }

  /** @param {Conversation} conversation */
  async delete(conversation) {
    this.runs.get(conversation.id)?.abort.abort();
    this.runs.delete(conversation.id);
    await this.kept(store.deleteConversation(conversation.id));
    if (this.conversation?.id === conversation.id) await this.open(null);
    this.watcher.listed();
  }

  /** @param {Message} message */
  add(message) {
    this.messages.push(message);
    this.keep(this.messages.length - 1);
    this.watcher.added(message);
  }

  /** @param {number} from */
  drop(from) {
    if (!this.conversation || from >= this.messages.length) return;
    this.messages.splice(from);
    this.kept(store.dropMessages(this.conversation.id, from));
    this.watcher.dropped(from);
  }

  /** Asks for a reply to what the open conversation has, and takes it in. */
  async answer() {
    const conversation = /** @type {Conversation} */ (this.conversation);
    const messages = this.messages;
    /** @type {Message} */
    const reply = { role: "assistant", content: "", model: settings.model };
    const run = { messages, reply, abort: new AbortController() };
    conversation.updated = Date.now();
    this.kept(store.saveConversation(conversation)).then(() => this.watcher.listed());
    const body = requestOf(messages, settings.model);
    this.runs.set(conversation.id, run);
    messages.push(reply);
    const position = messages.length - 1;
    this.watcher.added(reply);

    // Should the page be left before the reply is whole, what there is of it says so.
    const keepPart = () => this.kept(store.saveMessage(conversation.id, position, { ...reply, state: "stopped" }));
    keepPart();
    const meter = new Meter();
    let saved = performance.now();
    try {
      for await (const piece of streamChat(body, settings.api_key, run.abort.signal)) {
        meter.take(piece);
        take(piece, reply);
        if (messages === this.messages) this.watcher.grown(reply);
        if (performance.now() - saved > SAVE_EVERY_MS) {
          saved = performance.now();
          keepPart();
        }
      }
    } catch (error) {
      if (run.abort.signal.aborted) reply.state = "stopped";
      else fail(reply, error);
    }
    reply.stats = meter.stats ?? undefined;
    // Meanwhile the conversation may be gone, or another reply may have taken this one's place.
    if (this.runs.get(conversation.id) !== run) return;
    this.runs.delete(conversation.id);
    await this.kept(store.saveMessage(conversation.id, position, reply));
    if (messages === this.messages) this.watcher.ended(reply);
  }

  /** Keeps the message at a position. @param {number} position */
  keep(position) {
    const { id } = /** @type {Conversation} */ (this.conversation);
    this.kept(store.saveMessage(id, position, this.messages[position]));
  }

  /** The result of a storage's promise; where a browser keeps nothing, the conversation goes on without. @param {Promise<any>} promise  @param {any} [otherwise] */
  async kept(promise, otherwise) {
    try {
      return await promise;
    } catch {
      this.watcher.unkept();
      return otherwise;
    }
  }
}

/** @param {import("./api.js").Piece} piece  @param {Message} reply */
function take(piece, reply) {
  if (piece.content) reply.content += piece.content;
  if (piece.reasoning) reply.reasoning = (reply.reasoning ?? "") + piece.reasoning;
  for (const delta of piece.calls ?? []) {
    const calls = (reply.calls ??= []);
    // Some servers count no calls: then an id begins the next one.
    const at = delta.index ?? (delta.id || !calls.length ? calls.length : calls.length - 1);
    if (!Number.isInteger(at) || at < 0 || at > calls.length) continue;
    const call = (calls[at] ??= { id: delta.id ?? `call_${at}`, name: "", arguments: "" });
    if (delta.id) call.id = delta.id;
    call.name += delta.function?.name ?? "";
    call.arguments += delta.function?.arguments ?? "";
  }
  if (piece.end === "length") reply.state = "length";
}

/** @param {Message} reply  @param {unknown} error */
function fail(reply, error) {
  if (!(error instanceof ApiError)) console.error(error);
  reply.state = "failed";
  reply.error = error instanceof ApiError ? { kind: error.kind, said: error.message } : { kind: "odd", said: "" };
}

/** @param {string} text */
const titleOf = (text) => [...text.trim().replace(/\s+/g, " ")].slice(0, TITLE_CHARS).join("");

// @ts-check
/** The open conversation's messages. Old ones become elements only when the reader scrolls to them, a few at a time. */

import { el } from "./dom.js";
import { MessageView } from "./message_view.js";

/** @typedef {import("./store.js").Message} Message */

const AT_ONCE = 12; // messages that are made within a frame, if there is time
const AT_LEAST = 4; // and if there is none
const BUDGET_MS = 8;
const IN_CHUNK = 20; // messages that are laid out together, or out of sight not at all
const NEAR_END_PX = 80;

export class Transcript {
  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} list
   * @param {HTMLElement} jump  the button that leads to the end
   * @param {import("./message_view.js").Actions} actions
   */
  constructor(scroller, list, jump, actions) {
    this.scroller = scroller;
    this.list = list;
    this.jump = jump;
    this.actions = actions;
    /** @type {Message[]} */
    this.messages = [];
    this.first = 0; // the first message that has an element
    /** @type {Map<Message, MessageView>} */
    this.views = new Map();
    /** By the number of their first message. @type {Map<number, HTMLElement>} */
    this.chunks = new Map();
    this.following = true; // the end stays in sight
    this.top = 0;
    /** @type {Message | null} */
    this.grown = null;
    this.notBefore = 0;
    this.looking = false;
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.following && this.toEnd()).observe(list);
  }

  /** @param {Message[]} messages  @param {Message | undefined} running */
  show(messages, running) {
    this.messages = messages;
    this.running = running;
    this.first = messages.length;
    this.views.clear();
    this.chunks.clear();
    this.grown = null;
    this.list.replaceChildren();
    this.older(AT_ONCE, Infinity);
    this.toEnd();
    this.lookUp();
  }

  /** @param {Message} message */
  add(message) {
    if (message.role === "assistant") this.running = message;
    this.place(this.messages.length - 1);
    this.toEnd();
    this.lookUp();
  }

  /** Forgets the messages from a position on. @param {number} from */
  drop(from) {
    const kept = new Set(this.messages.slice(0, from));
    for (const [message, view] of this.views) {
      if (kept.has(message)) continue;
      view.element.remove();
      this.views.delete(message);
    }
    for (const [number, chunk] of this.chunks) {
      if (chunk.firstChild) continue;
      chunk.remove();
      this.chunks.delete(number);
    }
    this.first = Math.min(this.first, from);
  }

  /** A message has more text; it is shown in the next frame, and later while that is slow. @param {Message} message */
  grow(message) {
    if (this.grown) return;
    this.grown = message;
    const wait = this.notBefore - performance.now();
    if (wait > 0) setTimeout(() => requestAnimationFrame(() => this.showGrown()), wait);
    else requestAnimationFrame(() => this.showGrown());
  }

  showGrown() {
    const message = this.grown;
    this.grown = null;
    if (!message || message !== this.running) return;
    const began = performance.now();
    this.views.get(message)?.grow();
    const took = performance.now() - began;
    this.notBefore = took > BUDGET_MS ? performance.now() + 4 * took : 0;
  }

  /** @param {Message} message */
  end(message) {
    if (this.running === message) this.running = undefined;
    this.views.get(message)?.end();
  }

  toEnd() {
    this.following = true;
    this.scroller.scrollTop = this.top = this.scroller.scrollHeight;
    this.jump.hidden = true;
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const near = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (near) this.following = true;
    else if (scrollTop < this.top) this.following = false;
    this.top = scrollTop;
    this.jump.hidden = this.following || near;
    this.lookUp();
  }

  /** Makes older messages while the reader is near the first that is there. */
  lookUp() {
    if (this.looking || this.first === 0) return;
    const { scrollTop, clientHeight } = this.scroller;
    if (scrollTop > 2 * clientHeight) return;
    this.looking = true;
    requestAnimationFrame(() => {
      this.looking = false;
      this.older(AT_ONCE, BUDGET_MS);
      this.lookUp();
    });
  }

  /** Makes elements of some older messages; what the reader sees stays where it is. @param {number} most  @param {number} budget */
  older(most, budget) {
    const began = performance.now();
    const below = this.scroller.scrollHeight - this.scroller.scrollTop;
    for (let made = 0; this.first > 0 && made < most; made += 1) {
      if (made >= AT_LEAST && performance.now() - began > budget) break;
      this.first -= 1;
      this.place(this.first);
    }
    if (!this.following) this.scroller.scrollTop = this.top = this.scroller.scrollHeight - below;
  }

  /** Makes a message's element and puts it before or behind all that are there. @param {number} position */
  place(position) {
    const message = this.messages[position];
    const view = new MessageView(message, message === this.running, this.actions);
    this.views.set(message, view);
    const number = position - (position % IN_CHUNK);
    let chunk = this.chunks.get(number);
    if (!chunk) {
      this.chunks.set(number, (chunk = el("div", { class: "chunk" })));
      this.list[position === this.first ? "prepend" : "append"](chunk);
    }
    chunk[position === this.first ? "prepend" : "append"](view.element);
  }
}

// @ts-check
/** One message as the reader sees it. */

import { callView } from "./call_view.js";
import { copyFrom, el, iconButton, isComposing } from "./dom.js";
import { t } from "./i18n.js";
import { GrowingMarkdown, codeBlock, markdown } from "./markdown.js";

/**
 * @typedef {import("./store.js").Message} Message
 * @typedef {{
 *   edit(message: Message, text: string): void, regenerate(): void, enterKey(): void,
 *   giveResults(message: Message, results: string[]): void,
 * }} Actions
 */

export class MessageView {
  /**
   * @param {Message} message
   * @param {boolean} running  it is being written
   * @param {Actions} actions
   */
  constructor(message, running, actions) {
    this.message = message;
    this.actions = actions;
    this.body = el("div", { class: "body" });
    this.foot = el("div", { class: "foot" });
    const who = message.role === "user" ? t("you") : message.role === "tool" ? t("callResult") : message.model || t("assistant");
    this.element = el("article", { class: `message ${message.role}` }, el("h2", {}, who), this.body, this.foot);
    if (message.role === "user") this.showUser();
    else if (message.role === "tool") this.body.append(result(message.content));
    else if (running) this.begin();
    else this.end();
  }

  showUser() {
    this.body.replaceChildren(el("p", { class: "text" }, this.message.content));
    this.foot.replaceChildren(this.copyButton(), iconButton("edit", t("edit"), () => this.edit()));
  }

  /** The message in a field, in which it can be changed. */
  edit() {
    const area = el("textarea", { value: this.message.content, rows: 3, "aria-label": t("editLabel") });
    const leave = () => {
      this.showUser();
      this.foot.querySelector(".edit").focus();
    };
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      if (area.value.trim()) this.actions.edit(this.message, area.value);
    };
    const keydown = (/** @type {KeyboardEvent} */ event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      }
      if (event.key === "Enter" && !event.shiftKey) submit(event);
    };
    const buttons = el(
      "div",
      { class: "buttons" },
      el("span", { class: "quiet" }, t("editHint")),
      el("button", { type: "button", click: leave }, t("cancel")),
      el("button", { class: "primary" }, t("send")),
    );
    this.body.replaceChildren(el("form", { class: "edit-form", submit, keydown }, area, buttons));
    this.foot.replaceChildren();
    area.focus();
  }

  /** The reply is to come. */
  begin() {
    this.content = el("div", { class: "markdown" });
    this.dots = el("div", { class: "dots", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
    this.growing = new GrowingMarkdown(this.content);
    this.body.replaceChildren(this.content, this.dots);
    this.element.classList.add("running");
    this.grow();
  }

  /** More of it is there. */
  grow() {
    const { content, reasoning, calls } = this.message;
    if (reasoning) this.showThinking(reasoning);
    if (mayBeJson(content)) this.content.replaceChildren(codeBlock(content, "JSON"));
    else this.growing.show(content);
    if (calls?.length) {
      this.calls ??= this.body.insertBefore(el("div", {}), this.dots);
      this.calls.replaceChildren(...calls.map((call) => callView(call)));
    }
  }

  /** It is whole, or as whole as it gets. */
  end() {
    const { content, reasoning, calls, state, error } = this.message;
    const json = mayBeJson(content) ? pretty(content) : null;
    const shown = this.content && !mayBeJson(content);
    if (shown) this.growing.show(content);
    else this.content = el("div", { class: "markdown" }, ...(json === null ? markdown(content) : [codeBlock(json, "JSON")]));
    this.body.replaceChildren(this.content);
    if (reasoning) this.showThinking(reasoning);
    if (calls?.length) this.body.append(this.callsForm(calls));
    if (state === "stopped" || state === "length") this.body.append(el("p", { class: "note" }, t(state)));
    if (state === "failed") this.body.append(this.failure(error?.kind ?? "odd", error?.said ?? ""));
    this.element.classList.remove("running");
    this.foot.replaceChildren(
      ...(content ? [this.copyButton()] : []),
      iconButton("again", t("regenerate"), () => this.actions.regenerate()),
      el("span", { class: "stats" }, statsText(this.message.stats)),
    );
  }

  /** @param {string} text */
  showThinking(text) {
    if (!this.thinking?.isConnected) {
      this.thinking = el("details", { class: "thinking" }, el("summary", {}, t("thinking")), el("p", { class: "text" }));
      this.body.prepend(this.thinking);
    }
    this.thinking.lastChild.textContent = text;
  }

  /** The calls, and fields for what they give. @param {import("./store.js").ToolCall[]} calls */
  callsForm(calls) {
    const areas = calls.map((call) => el("textarea", { rows: 2, required: true, "aria-label": t("callResultOf", { name: call.name }), placeholder: t("callResult") }));
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.actions.giveResults(this.message, areas.map((area) => area.value));
    };
    return el(
      "form",
      { class: "calls", submit },
      ...calls.flatMap((call, index) => [callView(call), areas[index]]),
      el("div", { class: "buttons" }, el("button", { class: "primary" }, t("callSend"))),
    );
  }

  /** @param {string} kind  @param {string} said */
  failure(kind, said) {
    const key = kind === "key";
    return el(
      "div",
      { class: "failure" },
      el("p", {}, errorText(kind, said)),
      el("button", { type: "button", click: () => (key ? this.actions.enterKey() : this.actions.regenerate()) }, t(key ? "enterKey" : "retry")),
    );
  }

  copyButton() {
    const button = iconButton("copy", t("copy"), () => copyFrom(button, this.message.content, t("copied")));
    return button;
  }
}

/** A sentence for what went wrong with a reply. @param {string} kind  @param {string} said */
export function errorText(kind, said) {
  if (kind === "refused" && said) return t("errorRefused", { said });
  if (kind === "key") return t("errorKey");
  if (kind === "unreachable") return t("errorNotSent");
  return t(kind === "cut" ? "errorCut" : "errorOdd");
}

/** @param {import("./store.js").Stats | undefined} stats */
function statsText(stats) {
  if (!stats) return "";
  const about = stats.exact ? "" : "≈";
  return [
    stats.rate === null ? "" : about + t("rate", { rate: stats.rate.toFixed(1) }),
    t("first", { first: stats.first.toFixed(2) }),
    about + t("tokens", { tokens: stats.tokens }),
  ].filter(Boolean).join(" · ");
}

/** What a tool gave. @param {string} text */
const result = (text) => codeBlock(pretty(text) ?? text, mayBeJson(text) ? "JSON" : t("callResult"));

/** Text that no reader would write as anything but JSON. @param {string} text */
const mayBeJson = (text) => /^\s*(?:\{\s*(?:"|\}|$)|\[\s*(?:[{["\d]))/.test(text);

/** JSON with a line for each member; null for what is none. @param {string} text */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

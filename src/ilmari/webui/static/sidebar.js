// @ts-check
/** The list of conversations. */

import { ask } from "./ask.js";
import { byId, el, iconButton } from "./dom.js";
import { t } from "./i18n.js";

/** @typedef {import("./store.js").Conversation} Conversation */

/**
 * @param {HTMLElement} list
 * @param {Conversation[]} conversations
 * @param {import("./chat.js").Chat} chat
 * @param {(conversation: Conversation) => void} open
 */
export function showConversations(list, conversations, chat, open) {
  const current = chat.conversation?.id;
  const focused = placeOf(list, document.activeElement);
  list.replaceChildren(
    ...conversations.map((conversation) => {
      const title = conversation.title || t("untitled");
      const choose = el("button", { type: "button", class: "choose", click: () => open(conversation) }, title);
      if (conversation.id === current) choose.setAttribute("aria-current", "true");
      return el(
        "li",
        {},
        choose,
        iconButton("edit", t("renameOf", { title }), () => rename(conversation, chat)),
        iconButton("delete", t("deleteOf", { title }), () => remove(conversation, title, chat)),
      );
    }),
  );
  if (focused) (/** @type {any} */ (list.children[focused.row]?.children[focused.column]) ?? byId("new")).focus();
}

/** Where the focus is in the list, so that it stays there when the list is made anew. @param {HTMLElement} list  @param {Element | null} element */
function placeOf(list, element) {
  if (!element || !list.contains(element)) return null;
  const row = /** @type {Element} */ (element.parentElement);
  return { row: [...list.children].indexOf(row), column: [...row.children].indexOf(element) };
}

/** @param {Conversation} conversation  @param {import("./chat.js").Chat} chat */
async function rename(conversation, chat) {
  const title = await ask({ question: t("titleLabel"), confirm: t("save"), text: conversation.title });
  if (title?.trim()) await chat.rename(conversation, title.trim());
}

/** @param {Conversation} conversation  @param {string} title  @param {import("./chat.js").Chat} chat */
async function remove(conversation, title, chat) {
  const sure = await ask({ question: t("deleteSure", { title }), confirm: t("delete"), danger: true });
  if (sure !== null) await chat.delete(conversation);
}

// @ts-check
/** Short questions in a dialog: a new text, or yes and no. */

import { byId } from "./dom.js";

/**
 * Asks, and gives the text that was entered ("" where none was asked for), or null if the reader changed their mind.
 * @param {{ question: string, confirm: string, text?: string, danger?: boolean }} options  text: what is to be changed
 * @returns {Promise<string | null>}
 */
export function ask({ question, confirm, text, danger = false }) {
  const dialog = byId("ask");
  const input = byId("ask-text");
  byId("ask-question").textContent = question;
  byId("ask-confirm").textContent = confirm;
  byId("ask-confirm").classList.toggle("danger", danger);
  input.hidden = text === undefined;
  input.value = text ?? "";
  dialog.returnValue = "";
  dialog.showModal();
  if (text !== undefined) input.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? input.value : null), { once: true });
  });
}

/** Makes the dialog's buttons work. */
export function prepareAsk() {
  const dialog = byId("ask");
  byId("ask-form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    dialog.close("yes");
  });
  byId("ask-cancel").addEventListener("click", () => dialog.close());
}

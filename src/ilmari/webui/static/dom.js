// @ts-check
/** Elements made of properties and children. Text only ever becomes text: nothing here, or elsewhere, parses HTML. */

import { icon as drawn } from "./icons.js";

/**
 * An element. `class`, `data-…`, `aria-…`, `role` and `for` are attributes, functions are listeners, all else properties.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, /** @type {EventListener} */ (value));
    else if (/^(class|role|for|data-|aria-)/.test(name)) element.setAttribute(name, String(value));
    else /** @type {any} */ (element)[name] = value;
  }
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child || child === "")));
  return element;
}

/**
 * The element with this id, which the page always has.
 * @param {string} id
 * @returns {any}
 */
export const byId = (id) => document.getElementById(id);

/**
 * A button that shows an icon and has a name for those who do not see it.
 * @param {import("./icons.js").IconName} icon
 * @param {string} label
 * @param {() => void} click
 */
export function iconButton(icon, label, click) {
  return el("button", { type: "button", class: `icon ${icon}`, "aria-label": label, title: label, click }, drawn(icon));
}

/**
 * Copies text and says so on the button for a moment.
 * @param {any} button
 * @param {string} text
 * @param {string} done
 */
export async function copyFrom(button, text, done) {
  await copy(text);
  const { title } = button;
  button.replaceChildren(drawn("done"));
  button.setAttribute("aria-label", done);
  setTimeout(() => {
    button.replaceChildren(drawn("copy"));
    button.setAttribute("aria-label", title);
  }, 1500);
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers have no clipboard for pages over plain HTTP from another machine; selected text can be copied anywhere.
    const area = el("textarea", { value: text, class: "unseen", readOnly: true });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
}

/** Whether a key is an input method's. Safari ends the composition before the Enter that chose; 229 is left to tell. @param {KeyboardEvent} event */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

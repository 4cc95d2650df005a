// @ts-check
/** The page's texts in the reader's language. */

import { TEXTS } from "./texts.js";

/** @typedef {keyof typeof TEXTS} Language */
/** @typedef {keyof typeof TEXTS.en} Key */

/** @type {Language} */
let language = "en";

/** The browser's, if the page speaks it. @returns {Language} */
export const preferred = () => (navigator.language.startsWith("zh") ? "zh" : "en");

/** @param {Language} chosen */
export function setLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : chosen;
  document.title = t("title");
  for (const [attribute, put] of Object.entries(PLACES)) {
    for (const element of document.querySelectorAll(`[data-${attribute}]`)) {
      put(/** @type {any} */ (element), t(/** @type {Key} */ (/** @type {any} */ (element).dataset[attribute])));
    }
  }
}

/** Where the page's own elements have their texts. @type {Record<string, (element: any, text: string) => void>} */
const PLACES = {
  text: (element, text) => (element.textContent = text),
  label: (element, text) => {
    element.setAttribute("aria-label", text);
    if (element.tagName === "BUTTON") element.title = text;
  },
  placeholder: (element, text) => (element.placeholder = text),
};

/**
 * A text in the reader's language.
 * @param {Key} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  return TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

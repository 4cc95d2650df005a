// @ts-check
/** What the reader has chosen, kept in the browser, and the dialog in which it is chosen. */

import { byId } from "./dom.js";
import { preferred, setLanguage, t } from "./i18n.js";

const KEY = "ilmari.settings";

/** Fields of a request that are numbers: name in the API, element of the dialog. */
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty"];

/** Everything the dialog has, by the ids of its elements; all are strings, and "" is no choice. */
const DEFAULTS = {
  api_key: "",
  system: "",
  temperature: "",
  top_p: "",
  max_tokens: "",
  seed: "",
  presence_penalty: "",
  frequency_penalty: "",
  stop: "",
  format: "text",
  schema: "",
  tools: "",
  theme: "auto",
  language: "",
  model: "",
};

/** @typedef {typeof DEFAULTS} Settings */

/** @returns {Settings} */
function load() {
  const settings = { ...DEFAULTS };
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    for (const name of /** @type {(keyof Settings)[]} */ (Object.keys(DEFAULTS))) {
      if (typeof kept[name] === "string") settings[name] = kept[name];
    }
  } catch {
    // Without storage everything is as at first.
  }
  return settings;
}

export const settings = load();

/** @param {Partial<Settings>} changed */
export function change(changed) {
  Object.assign(settings, changed);
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // They hold until the page is closed.
  }
}

/** Shows the page as it was chosen. */
export function applyAppearance() {
  const { theme, language } = settings;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setLanguage(language === "en" || language === "zh" ? language : preferred());
}

/**
 * The fields of a request that were chosen; all others are the server's to decide.
 * @returns {Record<string, unknown>}
 */
export function chosenFields() {
  /** @type {Record<string, unknown>} */
  const fields = {};
  for (const name of NUMBERS) {
    const text = settings[/** @type {keyof Settings} */ (name)];
    if (text !== "" && Number.isFinite(Number(text))) fields[name] = Number(text);
  }
  const stop = settings.stop.split("\n").filter(Boolean);
  if (stop.length) fields.stop = stop;
  if (settings.tools.trim()) fields.tools = JSON.parse(settings.tools);
  if (settings.format === "json") fields.response_format = { type: "json_object" };
  if (settings.format === "schema" && settings.schema.trim()) {
    const schema = JSON.parse(settings.schema);
    fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  }
  return fields;
}

/** What a text area with JSON must hold. @type {Record<string, (value: any) => boolean>} */
const JSON_FIELDS = {
  schema: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  tools: (value) => Array.isArray(value),
};

/**
 * Prepares the dialog; `changed` is called when it was saved.
 * @param {() => void} changed
 */
export function prepareDialog(changed) {
  const form = byId("settings-form");
  const fields = () => /** @type {any[]} */ ([...form.elements]).filter((field) => field.name in DEFAULTS);
  const showSchema = () => (byId("schema-row").hidden = form.elements.format.value !== "schema");
  const holds = (/** @type {string} */ name) => {
    const text = form.elements[name].value;
    return !(name in JSON_FIELDS) || !text.trim() || isJson(text, JSON_FIELDS[name]);
  };
  form.elements.format.addEventListener("change", showSchema);
  for (const name of Object.keys(JSON_FIELDS)) {
    form.elements[name].addEventListener("input", () => form.elements[name].setCustomValidity(""));
  }
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    for (const name of Object.keys(JSON_FIELDS)) {
      // Nothing can be said at a field that is not in sight.
      const asked = name !== "schema" || form.elements.format.value === "schema";
      form.elements[name].setCustomValidity(!asked || holds(name) ? "" : t("badJson"));
    }
    if (!form.reportValidity()) return;
    const held = fields().filter((field) => holds(field.name));
    change(Object.fromEntries(held.map((field) => [field.name, field.value])));
    applyAppearance();
    byId("settings").close();
    changed();
  });
  return (/** @type {string} */ focused = "") => {
    for (const field of fields()) field.value = settings[/** @type {keyof Settings} */ (field.name)];
    showSchema();
    byId("settings").showModal();
    if (focused) form.elements[focused].focus();
  };
}

/** @param {string} text  @param {(value: any) => boolean} holds */
function isJson(text, holds) {
  try {
    return holds(JSON.parse(text));
  } catch {
    return false;
  }
}

// @ts-check
/** A call of a tool as the reader sees it: its name, and its arguments in a readable form. */

import { el } from "./dom.js";
import { t } from "./i18n.js";
import { codeBlock } from "./markdown.js";

/** @param {import("./store.js").ToolCall} call */
export function callView(call) {
  return el("div", { class: "call" }, el("p", { class: "call-name" }, t("call", { name: call.name })), ...argumentsOf(call.arguments));
}

/** Arguments as a list of names and values; as they are while they are not whole. @param {string} text */
function argumentsOf(text) {
  let values;
  try {
    values = JSON.parse(text);
  } catch {
    return text ? [codeBlock(text, "JSON")] : [];
  }
  if (typeof values !== "object" || values === null || Array.isArray(values)) return [codeBlock(text, "JSON")];
  const rows = Object.entries(values).flatMap(([name, value]) => {
    const shown = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    return [el("dt", {}, name), el("dd", {}, shown)];
  });
  return rows.length ? [el("dl", {}, ...rows)] : [];
}

// @ts-check
/** Markdown as elements, whole or as it arrives. */

import { blocksOf } from "./blocks.js";
import { copyFrom, el, iconButton } from "./dom.js";
import { t } from "./i18n.js";
import { inline } from "./inline.js";

const DEEPEST = 8; // lists and quotes within each other; what is nested deeper is a paragraph

/** @typedef {import("./blocks.js").Block} Block */

/**
 * Text that grows, shown in `container`. Only its end is made anew: no later line changes what is before it.
 */
export class GrowingMarkdown {
  /** @param {HTMLElement} container */
  constructor(container) {
    this.container = container;
    this.settled = 0; // characters of the text whose blocks are final
    /** @type {HTMLElement[]} */
    this.open = [];
  }

  /** @param {string} text  all of it so far */
  show(text) {
    const lines = text.slice(this.settled).split("\n");
    const blocks = blocksOf(lines);
    const elements = blocks.map((block) => elementOf(block, 0));
    for (const element of this.open) element.remove();
    this.container.append(...elements);
    // A last line that is not whole yet may turn out to belong to the block before it.
    const partial = blocks.length > 1 && blocks[blocks.length - 1].from === lines.length - 1;
    const first = Math.max(0, blocks.length - (partial ? 2 : 1));
    this.open = elements.slice(first);
    for (const line of lines.slice(0, blocks[first]?.from ?? 0)) this.settled += line.length + 1;
  }
}

/**
 * A whole text.
 * @param {string} text
 * @param {number} [depth]
 * @returns {Node[]}
 */
export function markdown(text, depth = 0) {
  return blocksOf(text.split("\n")).map((block) => elementOf(block, depth));
}

/** @type {Record<Block["kind"], (block: any, depth: number) => HTMLElement>} */
const MAKERS = {
  // A reply stands below the page's and its speaker's headings.
  heading: (block) => el(`h${Math.min(block.level + 2, 6)}`, {}, ...inline(block.text)),
  code: (block) => codeBlock(block.text, block.language),
  rule: () => el("hr"),
  quote: (block, depth) => el("blockquote", {}, ...markdown(block.text, depth + 1)),
  list: (block, depth) => {
    const items = block.items.map((/** @type {string} */ item) => el("li", {}, ...itemOf(item, block.loose, depth)));
    return block.ordered ? el("ol", { start: block.start }, ...items) : el("ul", {}, ...items);
  },
  table: (block) => table(block),
  paragraph: (block) => el("p", {}, ...inline(block.text)),
};

/** @param {Block} block  @param {number} depth */
function elementOf(block, depth) {
  if (depth > DEEPEST && "text" in block) return el("p", {}, block.text);
  if (depth > DEEPEST && block.kind === "list") return el("p", {}, block.items.join("\n"));
  return MAKERS[block.kind](block, depth);
}

/** What is in an item; a tight list has no paragraphs. @param {string} text  @param {boolean} loose  @param {number} depth */
function itemOf(text, loose, depth) {
  const [, task, rest] = /^(?:\[([ xX])\] )?([^]*)$/.exec(text) ?? [];
  const nodes = markdown(rest, depth + 1);
  const first = nodes[0];
  const tight = !loose && first instanceof HTMLParagraphElement;
  if (tight) nodes.splice(0, 1, ...first.childNodes);
  return task ? [task === " " ? "☐ " : "☑ ", ...nodes] : nodes;
}

/** @param {import("./blocks.js").Table} block */
function table({ align, head, rows }) {
  const cell = (/** @type {string} */ tag) => (/** @type {string} */ text, /** @type {number} */ column) =>
    el(tag, { class: align[column] }, ...inline(text));
  return scrollable(
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...head.map(cell("th")))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell("td"))))),
    ),
    t("table"),
  );
}

/** Something that may be wider than the page; the keyboard can scroll it too. @param {HTMLElement} child  @param {string} label */
function scrollable(child, label) {
  return el("div", { class: "wide", tabIndex: 0, role: "group", "aria-label": label }, child);
}

/**
 * Code as it is, with its language and a button that copies it.
 * @param {string} text
 * @param {string} language
 */
export function codeBlock(text, language) {
  const button = iconButton("copy", t("copyCode"), () => copyFrom(button, text, t("copied")));
  return el(
    "div",
    { class: "code" },
    el("div", { class: "code-head" }, el("span", {}, language || t("code")), button),
    el("pre", { tabIndex: 0, role: "group", "aria-label": language || t("code") }, el("code", {}, text)),
  );
}

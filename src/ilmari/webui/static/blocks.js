// @ts-check
/** Markdown's blocks: where each begins and what it is. What a later line cannot change any more is never looked at again. */

/**
 * @typedef {{ kind: "heading", level: number, text: string }} Heading
 * @typedef {{ kind: "code", language: string, text: string }} Code
 * @typedef {{ kind: "rule" }} Rule
 * @typedef {{ kind: "quote", text: string }} Quote
 * @typedef {{ kind: "list", ordered: boolean, start: number, loose: boolean, items: string[] }} List
 * @typedef {{ kind: "table", align: string[], head: string[], rows: string[][] }} Table
 * @typedef {{ kind: "paragraph", text: string }} Paragraph
 * @typedef {(Heading | Code | Rule | Quote | List | Table | Paragraph) & { from: number }} Block  from: its line
 */

const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)(.*)$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])(?:[ \t]+|$)/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*(?:\|[ \t]*)?$/;
const BLANK = /^\s*$/;

/**
 * The blocks of some lines.
 * @param {string[]} lines
 * @returns {Block[]}
 */
export function blocksOf(lines) {
  /** @type {Block[]} */
  const blocks = [];
  for (let from = 0; from < lines.length; ) {
    if (BLANK.test(lines[from])) {
      from += 1;
      continue;
    }
    const [block, to] = blockAt(lines, from);
    blocks.push({ ...block, from });
    from = to;
  }
  return blocks;
}

/**
 * @param {string[]} lines
 * @param {number} from
 * @returns {[any, number]} the block, and the line after it
 */
function blockAt(lines, from) {
  const line = lines[from];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, from, fence);
  const heading = HEADING.exec(line);
  if (heading) return [{ kind: "heading", level: heading[1].length, text: withoutMarks(heading[2].trim()) }, from + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, from + 1];
  if (QUOTE.test(line)) return quote(lines, from);
  const item = ITEM.exec(line);
  if (item) return list(lines, from, item);
  if (isTable(lines, from)) return table(lines, from);
  return paragraph(lines, from);
}

/** A heading may have marks after it too. @param {string} text */
function withoutMarks(text) {
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  return end === 0 || /\s/.test(text[end - 1]) ? text.slice(0, end).trimEnd() : text;
}

/** @param {string[]} lines  @param {number} from  @param {RegExpExecArray} fence  @returns {[Code, number]} */
function code(lines, from, fence) {
  const indent = /** @type {RegExpExecArray} */ (/^ */.exec(lines[from]))[0].length;
  const end = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*$`);
  let to = from + 1;
  while (to < lines.length && !end.test(lines[to])) to += 1;
  const inside = lines.slice(from + 1, to).map((line) => line.replace(new RegExp(`^ {0,${indent}}`), ""));
  return [{ kind: "code", language: fence[2], text: inside.join("\n") }, to + 1];
}

/** @param {string[]} lines  @param {number} from  @returns {[Quote, number]} */
function quote(lines, from) {
  let to = from;
  while (to < lines.length && QUOTE.test(lines[to])) to += 1;
  const inside = lines.slice(from, to).map((line) => line.replace(QUOTE, ""));
  return [{ kind: "quote", text: inside.join("\n") }, to];
}

/** @param {string[]} lines  @param {number} from  @param {RegExpExecArray} first  @returns {[List, number]} */
function list(lines, from, first) {
  const indent = first[1].length;
  const ordered = first[3] !== undefined;
  /** @type {string[][]} */
  const items = [];
  let loose = false;
  let blank = false;
  let to = from;
  for (; to < lines.length; to += 1) {
    const line = lines[to];
    if (BLANK.test(line)) {
      blank = true;
      continue;
    }
    const depth = /** @type {RegExpExecArray} */ (/^ */.exec(line))[0].length;
    const marker = ITEM.exec(line);
    if (depth >= indent + 2 && items.length) {
      if (blank) items[items.length - 1].push("");
      items[items.length - 1].push(line.slice(Math.min(depth, indent + first[0].trim().length + 1)));
    } else if (marker && !RULE.test(line) && (marker[3] !== undefined) === ordered) {
      loose ||= blank;
      items.push([line.slice(marker[0].length)]);
    } else if (!blank && !interrupts(lines, to)) {
      items[items.length - 1].push(line.trimStart());
    } else break;
    blank = false;
  }
  const start = ordered ? Number(first[3]) : 1;
  return [{ kind: "list", ordered, start, loose, items: items.map((item) => item.join("\n")) }, to];
}

/** @param {string[]} lines  @param {number} at */
function isTable(lines, at) {
  const next = lines[at + 1];
  if (!lines[at].includes("|") || next === undefined || !DELIMITERS.test(next)) return false;
  return cells(lines[at]).length === cells(next).length;
}

/** @param {string[]} lines  @param {number} from  @returns {[Table, number]} */
function table(lines, from) {
  const head = cells(lines[from]);
  const align = cells(lines[from + 1]).map((cell) =>
    cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left");
  let to = from + 2;
  while (to < lines.length && lines[to].includes("|") && !BLANK.test(lines[to])) to += 1;
  const rows = lines.slice(from + 2, to).map((line) => {
    const row = cells(line);
    return head.map((_, column) => row[column] ?? "");
  });
  return [{ kind: "table", align, head, rows }, to];
}

/** @param {string} line */
function cells(line) {
  const inside = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** @param {string[]} lines  @param {number} from  @returns {[Paragraph, number]} */
function paragraph(lines, from) {
  let to = from + 1;
  while (to < lines.length && !BLANK.test(lines[to]) && !interrupts(lines, to)) to += 1;
  return [{ kind: "paragraph", text: lines.slice(from, to).map((line) => line.trimStart()).join("\n").trimEnd() }, to];
}

/** Whether something other than a paragraph begins here. @param {string[]} lines  @param {number} at */
function interrupts(lines, at) {
  const line = lines[at];
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line)) || isTable(lines, at);
}

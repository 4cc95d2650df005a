// @ts-check
/** Markdown within a line: code, emphasis, links. One pass, in time proportional to the text, whatever is in it. */

import { el } from "./dom.js";

const SAFE = new Set(["http:", "https:", "mailto:"]);
const MOST_OPEN = 32; // emphasis within emphasis; what is nested deeper stays text
const TAGS = ["", "em", "strong"];

const CODE = /(`+)/y;
const ESCAPED = /\\([!-/:-@[-`{-~])/y;
const LINK = /!?\[((?:[^[\]\\\n]|\\.){0,1000})\]\(\s*(<[^<>\n]{0,2000}>|[^\s()<>]{0,2000}(?:\([^\s()]{0,500}\)[^\s()]{0,500}){0,4})(?:\s+"[^"\n]{0,500}")?\s*\)/y;
const ANGLE = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
const BARE = /https?:\/\/[^\s<>"'`，。；：！？、）】》]{1,2000}/y;
const PLAIN = /[^\\`*_~![<h]+|[^]/y;

/**
 * The address, if a browser may be sent there: never a script, never data.
 * @param {string} address
 * @returns {string | null}
 */
export function safeAddress(address) {
  try {
    const url = new URL(address);
    return SAFE.has(url.protocol) ? url.href : null;
  } catch {
    return null; // relative addresses would lead into this server
  }
}

/**
 * Text as nodes.
 * @param {string} text
 * @returns {Node[]}
 */
export function inline(text) {
  return new Line(text).nodes();
}

/** One text on its way to nodes. */
class Line {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.at = 0;
    /** @type {(Node | string)[]} */
    this.out = [];
    /** Delimiters that may yet open emphasis; `index` is their place in `out`. @type {{ char: string, count: number, index: number }[]} */
    this.open = [];
    /** Lengths of runs of backticks of which no other is left. @type {Set<number>} */
    this.lonely = new Set();
  }

  nodes() {
    while (this.at < this.text.length) {
      const char = this.text[this.at];
      const taken =
        char === "\\" ? this.escaped()
        : char === "`" ? this.code()
        : char === "[" || char === "!" ? this.link()
        : char === "<" ? this.angle()
        : char === "h" ? this.bare()
        : char === "*" || char === "_" || char === "~" ? this.delimiter(char)
        : false;
      if (!taken) this.plain();
    }
    return this.out.map((part) => (typeof part === "string" ? document.createTextNode(part) : part));
  }

  /** @param {RegExp} pattern  @returns {RegExpExecArray | null} */
  match(pattern) {
    pattern.lastIndex = this.at;
    return pattern.exec(this.text);
  }

  plain() {
    const [found] = /** @type {RegExpExecArray} */ (this.match(PLAIN));
    this.say(found);
    this.at += found.length;
  }

  /** @param {string} text */
  say(text) {
    const last = this.out.length - 1;
    const opener = this.open.at(-1);
    if (typeof this.out[last] === "string" && opener?.index !== last) this.out[last] += text;
    else this.out.push(text);
  }

  escaped() {
    const found = this.match(ESCAPED);
    if (!found) return false;
    this.say(found[1]);
    this.at += 2;
    return true;
  }

  code() {
    const [ticks] = /** @type {RegExpExecArray} */ (this.match(CODE));
    const from = this.at + ticks.length;
    const to = this.lonely.has(ticks.length) ? -1 : this.closing(ticks, from);
    if (to < 0) {
      this.lonely.add(ticks.length);
      this.say(ticks);
      this.at = from;
      return true;
    }
    const inside = this.text.slice(from, to).replaceAll("\n", " ");
    this.out.push(el("code", {}, /^ .*\S.* $/.test(inside) ? inside.slice(1, -1) : inside));
    this.at = to + ticks.length;
    return true;
  }

  /** Where a run of just these ticks is. @param {string} ticks  @param {number} from */
  closing(ticks, from) {
    for (let to = this.text.indexOf(ticks, from); to >= 0; to = this.text.indexOf(ticks, to)) {
      let end = to + ticks.length;
      while (this.text[end] === "`") end += 1;
      if (end - to === ticks.length) return to;
      to = end;
    }
    return -1;
  }

  /** A link, and an image too: nothing is loaded from elsewhere. */
  link() {
    const found = this.match(LINK);
    if (!found) return false;
    const address = safeAddress(found[2].replace(/^<|>$/g, ""));
    const label = found[1].replace(/[`*]/g, "") || found[2];
    if (address) this.out.push(anchor(address, [document.createTextNode(label)]));
    else this.say(found[0]);
    this.at += found[0].length;
    return true;
  }

  angle() {
    const found = this.match(ANGLE);
    return found ? this.address(found[1], found[0].length) : false;
  }

  bare() {
    const found = this.match(BARE);
    if (!found || /\w/.test(this.text[this.at - 1] ?? "")) return false;
    let address = found[0].replace(/[.,;:!?*_~]+$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
    return this.address(address, address.length);
  }

  /** @param {string} address  @param {number} length */
  address(address, length) {
    const safe = safeAddress(address);
    if (!safe) return false;
    this.out.push(anchor(safe, [document.createTextNode(address)]));
    this.at += length;
    return true;
  }

  /** A run of delimiters closes what is open, and opens what it does not close. @param {string} char */
  delimiter(char) {
    let end = this.at;
    while (this.text[end] === char) end += 1;
    let count = end - this.at;
    const before = this.text[this.at - 1] ?? " ";
    const after = this.text[end] ?? " ";
    this.at = end;
    const known = char === "~" ? count === 2 : count <= 3;
    const within = char === "_" && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after);
    if (!known || within) {
      this.say(char.repeat(count));
      return true;
    }
    if (/\S/.test(before)) while (count > 0 && this.open.some((each) => each.char === char)) count = this.close(char, count);
    if (count === 0) return true;
    if (/\S/.test(after) && this.open.length < MOST_OPEN) {
      this.open.push({ char, count, index: this.out.length });
      this.out.push(char.repeat(count));
    } else this.say(char.repeat(count));
    return true;
  }

  /** Closes the last opener of this kind, forgets those after it, and tells how many delimiters are left. @param {string} char  @param {number} count */
  close(char, count) {
    while (this.open.at(-1)?.char !== char) this.open.pop();
    const opener = /** @type {{ char: string, count: number, index: number }} */ (this.open.at(-1));
    const used = Math.min(opener.count, count, 2);
    const inside = this.out.splice(opener.index + 1);
    const element = el(char === "~" ? "del" : TAGS[used], {}, ...inside);
    opener.count -= used;
    if (opener.count === 0) {
      this.open.pop();
      this.out[opener.index] = element;
    } else {
      this.out[opener.index] = char.repeat(opener.count);
      this.out.push(element);
    }
    return count - used;
  }
}

/**
 * A link that leads out of the page and tells nobody where it was.
 * @param {string} href
 * @param {Node[]} children
 */
function anchor(href, children) {
  return el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

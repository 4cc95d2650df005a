// @ts-check
/** Icons, drawn with lines in a square of 24. */

const PATHS = {
  again: "M19 12a7 7 0 1 1-2-5M19 3.5V8h-4.5",
  copy: "M9 9h10v11H9zM5 15V4h10",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  done: "M5 13l4 4L19 7",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  settings: "M4 8h10M18 8h2M4 16h2M10 16h10M14 8a2 2 0 1 0 4 0 2 2 0 1 0-4 0M6 16a2 2 0 1 0 4 0 2 2 0 1 0-4 0",
  stop: "M7.5 7.5h9v9h-9z",
  theme: "M20 14A8 8 0 1 1 10 4a6.5 6.5 0 0 0 10 10z",
};

/** @typedef {keyof typeof PATHS} IconName */

const SVG = "http://www.w3.org/2000/svg";

/** An icon; those who do not see it need a name for what it is on. @param {IconName} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Gives the page's own elements the icons that they ask for. */
export function placeIcons() {
  for (const element of document.querySelectorAll("[data-icon]")) {
    element.prepend(icon(/** @type {IconName} */ (/** @type {HTMLElement} */ (element).dataset.icon)));
  }
}

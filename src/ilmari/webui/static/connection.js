// @ts-check
/** Whether the server can be reached, and which models it has; asked again until it answers. */

import { ApiError, listModels } from "./api.js";
import { settings } from "./settings.js";

const RETRY_MS = [1000, 2000, 4000, 8000];

/** @typedef {"ok" | ApiError["kind"]} State */

export class Connection {
  /** @param {(state: State, models: string[], before: State | null, said: string) => void} report  before: how it was at the last report; said: the server's words */
  constructor(report) {
    this.report = report;
    /** @type {State | null} */
    this.state = null;
    this.tries = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  async check() {
    clearTimeout(this.timer);
    /** @type {State} */
    let state = "ok";
    /** @type {string[]} */
    let models = [];
    let said = "";
    try {
      models = await listModels(settings.api_key);
    } catch (error) {
      state = error instanceof ApiError ? error.kind : "odd";
      said = error instanceof ApiError ? error.message : "";
    }
    // 503 is such a time too: the server is there, and not ready.
    if (state === "unreachable" || state === "refused") {
      this.timer = setTimeout(() => this.check(), RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)]);
      this.tries += 1;
    } else this.tries = 0;
    const before = this.state;
    this.state = state;
    this.report(state, models, before, said);
  }
}

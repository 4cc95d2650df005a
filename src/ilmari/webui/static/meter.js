// @ts-check
/** How fast a reply was: its first token, and tokens a second after it. */

/** @typedef {import("./api.js").Piece} Piece */

export class Meter {
  constructor() {
    this.began = performance.now();
    this.first = 0;
    this.last = 0;
    this.pieces = 0;
    /** @type {number | null} */
    this.counted = null;
  }

  /** @param {Piece} piece */
  take(piece) {
    this.counted = piece.usage?.completion_tokens ?? this.counted;
    if (!piece.content && !piece.reasoning && !piece.calls) return;
    this.pieces += 1;
    this.last = performance.now();
    this.first ||= this.last;
  }

  /**
   * What is known now; without the server's count, each piece is taken for a token. null before the first.
   * @returns {import("./store.js").Stats | null}
   */
  get stats() {
    if (!this.first) return null;
    const tokens = this.counted ?? this.pieces;
    const seconds = (this.last - this.first) / 1000;
    return {
      tokens,
      exact: this.counted !== null,
      first: (this.first - this.began) / 1000,
      rate: seconds > 0 && tokens > 1 ? (tokens - 1) / seconds : null,
    };
  }
}

// Which part of the text each token wrote.
//
// The text of an answer and its tokens come side by side. Mostly the tokens' texts spell the answer.
// But a character of several bytes can be spread over tokens that are no text by themselves, text is
// held back while it may become a stop string, and an end token writes nothing.

const MAX_WAITING = 16; // tokens that may wait for one that is found in the text again

/** Cuts the text of an answer into pieces of one token each. */
export class Placer {
  #text = ""; // what has not been placed
  #tokens = []; // those that have not been placed

  /** Takes new text and new tokens. Returns pieces {text, token}; a token may be null. */
  add(text, tokens) {
    this.#text += text;
    this.#tokens.push(...tokens.filter((token) => token.text !== ""));
    const pieces = [];
    for (let piece = this.#next(); piece; piece = this.#next()) pieces.push(piece);
    return pieces;
  }

  /** Returns the pieces of what is left when the answer is complete. */
  end() {
    const left = this.#text ? [this.#take(this.#text.length, this.#tokens[0] ?? null)] : [];
    this.#tokens = [];
    return left;
  }

  #next() {
    if (!this.#text) return null;
    const token = this.#tokens[0];
    if (!token) return this.#take(this.#text.length, null);
    if (this.#text.startsWith(token.text)) {
      this.#tokens.shift();
      return this.#take(token.text.length, token);
    }
    if (token.text.startsWith(this.#text)) return null; // the rest of it has not come yet
    return this.#afterUnreadable(token);
  }

  // The first token does not spell the text: it wrote what is before the next token that does.
  #afterUnreadable(first) {
    for (let skipped = 1; skipped < this.#tokens.length; skipped++) {
      const { text } = this.#tokens[skipped];
      const at = text.includes("\ufffd") ? -1 : this.#text.indexOf(text);
      if (at < 0 || at > first.text.length + 4 * skipped) continue;
      this.#tokens.splice(0, skipped);
      return at > 0 ? this.#take(at, first) : this.#next();
    }
    if (this.#tokens.length < MAX_WAITING) return null;
    this.#tokens = [];
    return this.#take(this.#text.length, first);
  }

  #take(length, token) {
    const text = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    return { text, token };
  }
}

// Writes an answer into the page piece by piece: tokens as coloured spans, fenced code as blocks of
// code. Everything else is shown as it is. What is written never changes, and each paragraph is a
// block of its own, so that only the last one is laid out again.

import { button, copyText, make } from "./dom.js";
import { sourceClass } from "./sources.js";

const MAYBE_FENCE = /^ {0,3}(`{0,2}|```[^`\n]*)$/;
const FENCE = /^ {0,3}```([^`\n]*)\n?$/;

/** Writes pieces {text, token} of one answer into an element. */
export class Writer {
  #root;
  #block = null; // the element that text goes to
  #inCode = false;
  #lineStart = true;
  #lineBefore = false; // whether what was written last ended a line
  #held = []; // pieces of a line that may become a fence

  constructor(root) {
    this.#root = root;
  }

  /** Writes one piece. */
  write({ text, token }) {
    for (const part of text.split(/(?<=\n)/)) this.#writePart({ text: part, token });
  }

  /** Writes what was held back. */
  end() {
    if (this.#held.length && !this.#openOrClose()) this.#flush();
  }

  #writePart(piece) {
    const complete = piece.text.endsWith("\n");
    if (this.#lineStart || this.#held.length) {
      this.#lineStart = complete;
      this.#held.push(piece);
      if (!complete && MAYBE_FENCE.test(this.#heldText())) return;
      if (complete && this.#openOrClose()) return;
      this.#flush();
    } else {
      this.#lineStart = complete;
      this.#append(piece);
    }
  }

  #heldText() {
    return this.#held.map((piece) => piece.text).join("");
  }

  // Opens or closes a block of code if the held line is a fence; returns whether it is.
  #openOrClose() {
    const fence = FENCE.exec(this.#heldText());
    if (!fence || (this.#inCode && fence[1].trim())) return false;
    this.#held = [];
    this.#inCode = !this.#inCode;
    this.#block = this.#inCode ? this.#openCode(fence[1].trim()) : null;
    return true;
  }

  #openCode(language) {
    const code = make("code");
    const copy = button("Copy", async () => {
      copy.textContent = (await copyText(code.textContent)) ? "Copied" : "Not copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    }, { class: "link", "aria-label": "Copy code" });
    const head = make("figcaption", {}, make("span", {}, language || "code"), copy);
    this.#root.append(make("figure", { class: "code" }, head, make("pre", { tabindex: "0" }, code)));
    return code;
  }

  #flush() {
    const held = this.#held;
    this.#held = [];
    for (const piece of held) this.#append(piece);
  }

  #append({ text, token }) {
    if (!this.#block) {
      const beforeText = this.#root.lastChild?.matches(".prose");
      if (!beforeText) text = text.replace(/^\n+/, ""); // blank lines beside a block of code
      if (!text) return;
      this.#block = make("div", { class: "prose" });
      this.#root.append(this.#block);
    }
    if (!token) this.#block.append(text);
    else {
      const colour = token.source ? ` drafted ${sourceClass(token.source)}` : "";
      this.#block.append(make("span", { class: `token${colour}`, "data-step": token.step }, text));
    }
    const blankLine = this.#lineBefore && text === "\n";
    this.#lineBefore = text.endsWith("\n");
    if (!blankLine || this.#inCode) return;
    this.#block.classList.add("spaced"); // by the blank line at its end
    this.#block = null;
  }
}

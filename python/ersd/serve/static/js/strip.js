// The strip of steps: one bar for each call of the target, as high as the tokens that it gave. It is
// a slider: the arrow keys and the pointer choose the step whose tree is shown.

import { makeSvg } from "./dom.js";
import { describe } from "./run.js";
import { sourceClass } from "./sources.js";

const BAR = 6, GAP = 2, HEIGHT = 40; // px
const LEAST_SCALE = 4; // tokens; the strip is at least this high

/** Draws the steps of a run into an element, and lets the user choose one. */
export class Strip {
  #root;
  #first = 0; // the step of the leftmost bar
  #n = 0; // steps of the run
  #chosen = 0;

  /** onChoose is called with a step's index. */
  constructor(root, onChoose) {
    this.#root = root;
    root.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.#chosen - 1, ArrowRight: this.#chosen + 1, ArrowDown: this.#chosen - 1,
        ArrowUp: this.#chosen + 1, Home: 0, End: this.#n - 1 }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      onChoose(Math.min(Math.max(to, 0), this.#n - 1));
    });
    const choose = (event) => {
      const x = event.clientX - root.getBoundingClientRect().left;
      const step = this.#first + Math.floor(x / (BAR + GAP));
      onChoose(Math.min(Math.max(step, 0), this.#n - 1));
    };
    root.addEventListener("pointerdown", (event) => {
      root.setPointerCapture(event.pointerId);
      choose(event);
    });
    root.addEventListener("pointermove", (event) => event.buttons && choose(event));
  }

  /** Shows a run with one step chosen. */
  draw(run, chosen) {
    this.#n = run.steps.length;
    this.#chosen = chosen;
    this.#root.hidden = this.#n === 0;
    if (this.#root.hidden) return;
    const nBars = Math.max(1, Math.floor((this.#root.clientWidth + GAP) / (BAR + GAP)));
    this.#first = Math.max(0, Math.min(this.#n - nBars, chosen - Math.floor(nBars / 2)));
    if (chosen >= this.#n - Math.floor(nBars / 2)) this.#first = Math.max(0, this.#n - nBars);
    const shown = run.steps.slice(this.#first, this.#first + nBars);
    const unit = HEIGHT / Math.max(LEAST_SCALE, ...shown.map((step) => step.tokens.length));
    const bars = shown.map((step, i) => bar(step, i * (BAR + GAP), unit, this.#first + i === chosen));
    this.#root.replaceChildren(
      makeSvg("svg", { width: "100%", height: HEIGHT + 4, "aria-hidden": "true" }, ...bars));
    this.#root.setAttribute("aria-valuemax", this.#n);
    this.#root.setAttribute("aria-valuenow", chosen + 1);
    this.#root.setAttribute("aria-valuetext", describe(run, chosen));
  }
}

function bar(step, x, unit, chosen) {
  let y = HEIGHT;
  // The target's own token is the base of its bar.
  const tokens = [...step.tokens].sort((a, b) => Boolean(a.source) - Boolean(b.source));
  const parts = tokens.map((token) => {
    y -= unit;
    const kind = token.source ? `drafted ${sourceClass(token.source)}` : "own";
    return makeSvg("rect", { class: kind, x, y, width: BAR, height: Math.max(1, unit - 1) });
  });
  const mark = chosen ? makeSvg("rect", { class: "mark", x, y: HEIGHT + 1, width: BAR, height: 3 }) : null;
  return makeSvg("g", {}, ...parts, mark);
}

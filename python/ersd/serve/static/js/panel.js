// The panel of the last answer: its figures, its steps, and the tree of one of them.

import { byId, make, throttled } from "./dom.js";
import { EXAMPLE, EXAMPLE_CAPTION } from "./example.js";
import { describe } from "./run.js";
import { sourceClass, sourceName } from "./sources.js";
import { Strip } from "./strip.js";
import { drawTree } from "./tree.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 60rem)"); // as in base.css

/** Shows one run at a time: the last step that it has, or one that the user chose. */
export class Panel {
  #run = null;
  #chosen = null; // a step's index; null: the last one
  #peeked = null; // {run, step} under the pointer
  #strip = new Strip(byId("steps"), (step) => this.choose(this.#run, step));
  #soon = throttled(calm.matches ? 500 : 100, () => this.#draw());

  constructor() {
    this.open = !narrow.matches;
    narrow.addEventListener("change", () => (this.open = !narrow.matches));
    new ResizeObserver(() => this.#run && this.#soon()).observe(byId("steps"));
    this.#draw();
  }

  /** Whether the trees are shown. Figures stay in sight on narrow screens. */
  get open() {
    return document.body.dataset.panel === "open";
  }

  set open(open) {
    document.body.dataset.panel = open ? "open" : "closed";
    for (const id of ["panel-button", "unfold-button"]) byId(id).setAttribute("aria-expanded", open);
    if (this.#run) this.#soon();
  }

  /** Shows a run, or null for none, and follows its last step. */
  show(run) {
    this.#run = run;
    this.#chosen = this.#peeked = null;
    this.#soon.now();
  }

  /** Draws a run again, if it is the one that is shown. Without `now`, a little later. */
  refresh(run, now = false) {
    if (run === this.#run) (now ? this.#soon.now : this.#soon)();
  }

  /** Shows one step of a run until another is chosen. */
  choose(run, step) {
    this.#run = run;
    this.#chosen = step === run.steps.length - 1 ? null : step;
    this.#soon.now();
  }

  /** Shows a step while the pointer is on its tokens; null ends that. */
  peek(run, step = 0) {
    if (!run && !this.#peeked) return;
    this.#peeked = run && { run, step };
    this.#soon.now();
  }

  #draw() {
    const run = this.#peeked?.run ?? this.#run;
    this.#figures(run);
    const n = run?.steps.length ?? 0;
    const step = Math.min(this.#peeked?.step ?? this.#chosen ?? n - 1, n - 1);
    byId("caption").textContent = n ? describe(run, step) : run ? "" : EXAMPLE_CAPTION;
    byId("hint").hidden = !(run?.finished && run.auto && n && !run.drafted);
    byId("steps").hidden = !n;
    if (!this.open) return;
    if (n) this.#strip.draw(run, step);
    this.#tree(n ? run.steps[step] : run ? null : EXAMPLE);
    this.#legend(run);
  }

  #figures(run) {
    const show = (id, value, digits, scale = 1, unit = "") => {
      const known = value !== null && value !== undefined;
      byId(id).textContent = known ? (value * scale).toFixed(digits) + unit : "–";
    };
    show("figure-speed", run?.speed, 1);
    show("figure-per-call", run?.perCall, 2);
    show("figure-accepted", run?.accepted, 0, 100, " %");
    const first = run?.firstToken;
    show("figure-first", first, first < 1 ? 0 : 1, first < 1 ? 1000 : 1, first < 1 ? " ms" : " s");
  }

  #tree(step) {
    const root = byId("tree");
    root.hidden = !step?.tree;
    if (root.hidden) return root.replaceChildren();
    const { picture, tip } = drawTree(step, byId("caption").textContent);
    root.replaceChildren(picture);
    // The accepted path is kept in sight.
    const frame = root.getBoundingClientRect();
    const at = tip.getBoundingClientRect();
    root.scrollTop = Math.max(0, at.bottom - frame.top - root.clientHeight / 2);
    root.scrollLeft = Math.max(0, at.right - frame.left - root.clientWidth + 12);
  }

  #legend(run) {
    const entry = (kind, text) => make("li", {}, make("span", { class: `swatch ${kind}` }), text);
    const sources = run?.sources.length ? run.sources : ["model"];
    byId("legend").replaceChildren(
      ...sources.map((source) => entry(`accepted ${sourceClass(source)}`, sourceName(source))),
      entry("own", "the target’s own"),
      entry("rejected", "outlined: not accepted"));
  }
}

// One generation as it is seen from here: its steps and its figures.

import { inOrder } from "./sources.js";

/** Says a number with its noun. */
export const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** The steps of one answer. A step is one call of the target: {tokens, tree}. */
export class Run {
  steps = [];
  seed = null;
  finished = false;
  auto; // whether the server chose how much to draft
  #asked = performance.now(); // ms, as the two below
  #first = null;
  #latest = null;
  #timings = null; // the server's own figures, which come at the end
  #speculative = null;

  /** options: what the request asked for beside its messages. */
  constructor(options) {
    this.auto = !options.method && (options.draft_nodes ?? "auto") === "auto";
  }

  /** Takes what a chunk says of the generation; returns the tokens that it brought. */
  add(chunk) {
    this.#timings = chunk.timings ?? this.#timings;
    this.#speculative = chunk.speculative ?? this.#speculative;
    this.seed = chunk.seed ?? this.seed;
    const draft = chunk.choices?.[0]?.draft;
    if (!draft?.tokens.length && !draft?.tree) return [];
    this.#latest = performance.now();
    this.#first ??= this.#latest;
    const first = this.steps.length;
    for (const tokens of calls(draft.tokens)) {
      for (const token of tokens) token.step = this.steps.length;
      this.steps.push({ tokens, tree: null });
    }
    this.steps.at(-1).tree = draft.tree;
    return this.steps.slice(first).flatMap((step) => step.tokens);
  }

  /** How many tokens the answer has so far. */
  get nTokens() {
    return this.#timings?.predicted_n ?? this.#sum((step) => step.tokens.length);
  }

  /** How many calls of the target there were. */
  get nCalls() {
    const perCall = this.#speculative?.tokens_per_call;
    return perCall ? Math.round(this.nTokens / perCall) : this.steps.length;
  }

  /** Whether any call had a draft. */
  get drafted() {
    return this.steps.some((step) => nDrafted(step) > 0);
  }

  /** The sources whose tokens are shown: those of the answer, and those of the trees. */
  get sources() {
    const of = (step) => [
      ...step.tokens.map((token) => token.source),
      ...(step.tree?.sources ?? []).map((sources) => sources[0]),
    ];
    return inOrder(this.steps.flatMap(of).filter(Boolean));
  }

  /** Tokens per second, after the first. Null if unknown, as are the figures below. */
  get speed() {
    if (this.#timings) return this.#timings.predicted_per_second ?? null;
    const seconds = (this.#latest - this.#first) / 1000;
    if (this.steps.length < 2 || seconds <= 0) return null;
    return (this.nTokens - this.steps[0].tokens.length) / seconds;
  }

  /** Tokens that a call of the target gave, on average. */
  get perCall() {
    const soFar = this.steps.length ? this.nTokens / this.steps.length : null;
    return this.#speculative?.tokens_per_call ?? soFar;
  }

  /** The share of drafted tokens that were accepted. */
  get accepted() {
    const seen = (n) => this.#sum((step) => (step.tree ? n(step) : 0));
    const drafted = this.#speculative?.num_draft_tokens ?? seen(nDrafted);
    const accepted = this.#speculative?.num_accepted_tokens ?? seen(nAccepted);
    return drafted ? accepted / drafted : null;
  }

  /** Seconds from the request to the first token. */
  get firstToken() {
    return this.#first === null ? null : (this.#first - this.#asked) / 1000;
  }

  #sum(value) {
    return this.steps.reduce((sum, step) => sum + value(step), 0);
  }
}

// Splits the tokens of a chunk into those of each call. While text is held back, a chunk can tell of
// several. The drafted tokens of a call come first, and one of the target's own ends it.
function calls(tokens) {
  const split = [[]];
  for (const { text, source } of tokens) {
    if (split.at(-1).some((token) => !token.source)) split.push([]);
    split.at(-1).push({ text, source });
  }
  return split;
}

/** How many tokens were drafted for a step, as far as is known. A tree's root is not drafted. */
export function nDrafted(step) {
  return step.tree ? step.tree.tokens.length - 1 : nAccepted(step);
}

/** How many of a step's tokens were drafted. */
export function nAccepted(step) {
  return step.tokens.filter((token) => token.source).length;
}

/** Says what a step did, in a sentence. */
export function describe(run, index) {
  const step = run.steps[index];
  const call = `Call ${index + 1} of ${run.steps.length}`;
  const accepted = nAccepted(step);
  const own = step.tokens.length - accepted;
  if (!nDrafted(step)) return `${call} had no draft and gave ${count(step.tokens.length, "token")}.`;
  const added = own ? ` and added ${own} of its own` : "";
  if (!step.tree) return `${call} accepted ${count(accepted, "drafted token")}${added}.`;
  return `${call} checked ${count(nDrafted(step), "drafted token")}, accepted ${accepted}${added}.`;
}

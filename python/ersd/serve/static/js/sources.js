// The colour of each draft source. Colour on this page means nothing else.

// A token of several sources has the colour of the first. Their colours are .source-1 to .source-5
// in base.css; .source-6 is for sources that a later server may have.
const ORDER = ["model", "lookup", "history", "prediction", "grammar"];

const rank = (source) => (ORDER.includes(source) ? ORDER.indexOf(source) : ORDER.length);

/** Returns the class that colours what a source drafted. */
export function sourceClass(source) {
  return `source-${rank(source) + 1}`;
}

/** Returns sources in the order in which they are shown, each once. */
export function inOrder(sources) {
  return [...new Set(sources)].sort((a, b) => rank(a) - rank(b));
}

/** Returns what a source is called on the page. */
export function sourceName(source) {
  return source === "model" ? "draft model" : source;
}

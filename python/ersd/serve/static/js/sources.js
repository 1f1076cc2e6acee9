// The colour of each draft source. Colour on this page means nothing else.

const N_COLOURS = 6; // .source-1 to .source-6 in base.css
const order = ["model"]; // sources in the order in which they were first seen

/** Returns the class that colours what a source drafted. */
export function sourceClass(source) {
  if (!order.includes(source)) order.push(source);
  return `source-${(order.indexOf(source) % N_COLOURS) + 1}`;
}

/** Returns what a source is called on the page. */
export function sourceName(source) {
  return source === "model" ? "draft model" : source;
}

// The tree that is shown before the first answer. The default pair drafted it after "The capital of
// France is Paris" with seed 7 and 8 nodes; bench/draw_tree.py draws the same one.

const own = { text: " population", source: null };
const drafted = [",", " with", " a"].map((text) => ({ text, source: "model" }));

/** The step of the example: {tokens, tree}. */
export const EXAMPLE = {
  tokens: [...drafted, own],
  tree: {
    tokens: [
      ...[" Paris", ",", " and", " where", " with", " which"],
      ...[" the", " a", " is", " city", " large", " of"],
    ],
    parents: [-1, 0, 0, 1, 1, 1, 3, 4, 5, 6, 7, 9],
    accepted: [0, 1, 4, 7],
  },
};

/** What the example shows, in a sentence. */
export const EXAMPLE_CAPTION =
  "An example: after “The capital of France is Paris”, one call of the target checked 11 drafted " +
  "tokens, accepted 3 and added 1 of its own.";

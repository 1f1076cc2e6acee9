// Draws the tree of one step: from the last token before it at the left to the leaves at the right,
// with the accepted path, and the token that the target added after it.

import { makeSvg } from "./dom.js";
import { sourceClass, sourceName } from "./sources.js";

const CHARACTER = 7.3; // px; the width of one, at the size that panel.css gives to labels
const PADDING = 7, HEIGHT = 22, ROW = 28, GAP = 22, MARGIN = 4; // px
const LONGEST = 14; // characters of a label
// Characters of East Asian scripts and emoji are twice as wide as the others.
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]|\p{Emoji_Presentation}/gu;

/** Returns a step's tree as a picture, and its last accepted or added node for scrolling to. */
export function drawTree(step, sentence) {
  const nodes = nodesOf(step);
  const nRows = place(nodes[0], 0);
  const left = columns(nodes);
  for (const node of nodes) {
    node.x = left[node.depth];
    node.y = MARGIN + HEIGHT / 2 + node.row * ROW;
  }
  // Accepted edges are drawn last, so that they lie above the others.
  const edges = nodes.filter((node) => node.parent).sort((a, b) => rank(a) - rank(b)).map(edge);
  const boxes = nodes.map(box);
  const width = left.at(-1) - GAP + MARGIN;
  const height = 2 * MARGIN + HEIGHT + (nRows - 1) * ROW;
  const picture = makeSvg("svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" },
    makeSvg("title", {}, sentence), ...edges, ...boxes);
  return { picture, tip: boxes[nodes.findLastIndex((node) => node.kind !== "rejected")] };
}

// Nodes in topological order: {text, parent, children, depth, kind, sources}. Servers that do not
// tell what drafted each node tell it of the accepted ones, with their tokens.
function nodesOf({ tokens, tree }) {
  const drafted = tokens.filter((token) => token.source);
  const own = tokens.find((token) => !token.source);
  const path = tree.accepted.filter((index) => index > 0);
  const nodes = [];
  tree.tokens.forEach((text, index) => {
    const at = path.indexOf(index);
    const kind = index === 0 ? "root" : at >= 0 ? "accepted" : "rejected";
    const sources = tree.sources?.[index] ?? [drafted[at]?.source].filter(Boolean);
    add(nodes, text, nodes[tree.parents[index]], kind, sources);
  });
  if (own) add(nodes, own.text, nodes[path.at(-1) ?? 0], "own");
  return nodes;
}

function add(nodes, text, parent, kind, sources = []) {
  const node = { text, parent, kind, sources, children: [], depth: parent ? parent.depth + 1 : 0 };
  parent?.children.push(node);
  nodes.push(node);
}

// Gives every leaf a row of its own and a parent the middle of its children; returns the next row.
function place(node, row) {
  node.row = row;
  if (!node.children.length) return row + 1;
  for (const child of node.children) row = place(child, row);
  node.row = (node.children[0].row + node.children.at(-1).row) / 2;
  return row;
}

// The left edge of each column in px, and of the one after the last.
function columns(nodes) {
  const left = [MARGIN];
  for (let depth = 0; depth <= Math.max(...nodes.map((node) => node.depth)); depth++) {
    const widths = nodes.filter((node) => node.depth === depth).map(boxWidth);
    left.push(left[depth] + Math.max(...widths) + GAP);
  }
  return left;
}

function rank(node) {
  return node.kind === "rejected" ? 0 : 1;
}

function colour({ sources }) {
  return sources.length ? sourceClass(sources[0]) : "";
}

function edge(node) {
  const { parent, x, y, kind } = node;
  const from = parent.x + boxWidth(parent);
  const middle = x - GAP / 2;
  return makeSvg("path", {
    class: `edge ${kind} ${colour(node)}`,
    d: `M${from} ${parent.y}H${Math.max(from, x - GAP)}C${middle} ${parent.y} ${middle} ${y} ${x} ${y}`,
  });
}

function box(node) {
  const { x, y, kind, sources, text } = node;
  const width = boxWidth(node);
  const title = [JSON.stringify(text), ...sources.map(sourceName)].join(" · ");
  return makeSvg("g", { class: `node ${kind} ${colour(node)}` },
    makeSvg("title", {}, title),
    makeSvg("rect", { x, y: y - HEIGHT / 2, width, height: HEIGHT, rx: 5 }),
    makeSvg("text", { x: x + width / 2, y: y + 4, "text-anchor": "middle" }, label(text)));
}

function boxWidth(node) {
  const text = label(node.text);
  return ([...text].length + (text.match(WIDE)?.length ?? 0)) * CHARACTER + 2 * PADDING;
}

function label(text) {
  const shown = text.replace(/\n/g, "↵").replace(/\t/g, "⇥").trim() || (text ? "␣" : "∅");
  const characters = [...shown];
  return characters.length > LONGEST ? characters.slice(0, LONGEST - 1).join("") + "…" : shown;
}

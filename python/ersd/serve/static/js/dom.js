// Short ways to find, make and announce things in the document.

const SVG = "http://www.w3.org/2000/svg";

/** Returns the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element. Attributes whose value is null, undefined or false are left out. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Makes an element of SVG. */
export function makeSvg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Makes one of the icons that index.html declares as symbols. */
export function icon(name) {
  return makeSvg("svg", { class: "icon", "aria-hidden": "true" }, makeSvg("use", { href: `#icon-${name}` }));
}

/** Makes a button that runs a function when it is pressed. */
export function button(label, onClick, attributes = {}) {
  const made = make("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", onClick);
  return made;
}

/** Lets screen readers say a sentence. */
export function announce(sentence) {
  byId("announcer").textContent = sentence;
}

/** Puts a text on the clipboard; returns whether that worked. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers have the clipboard only on https and localhost. Elsewhere a selection is copied.
    const box = make("textarea", { class: "unseen" });
    box.value = text;
    document.body.append(box);
    box.select();
    const copied = document.execCommand("copy");
    box.remove();
    return copied;
  }
}

/** Closes a dialog when the pointer is pressed beside it. */
export function closeBeside(dialog) {
  dialog.addEventListener("pointerdown", ({ target, clientX, clientY }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const inside = clientX >= left && clientX < right && clientY >= top && clientY < bottom;
    if (target === dialog && !inside) dialog.close();
  });
}

/** Returns a function that calls another one at most once in an interval, with the last call kept. */
export function throttled(milliseconds, call) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    call();
  };
  const soon = () => {
    if (!timer) timer = setTimeout(run, Math.max(0, last + milliseconds - performance.now()));
  };
  soon.now = () => {
    clearTimeout(timer);
    run();
  };
  return soon;
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

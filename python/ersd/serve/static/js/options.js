// The drawer of options: what is sent with each request. An empty field is not sent.

import { byId, closeBeside } from "./dom.js";
import { load, save } from "./storage.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "seed", "max_tokens"];
const KEPT = ["system", ...NUMBERS, "draft_nodes", "strategy"]; // in the browser; the key is not

/** The fields of the drawer. onClose is called with whether the API key is another one. */
export class Options {
  #dialog = byId("options");
  #form = byId("options-form");
  #keyBefore = "";

  constructor(onClose) {
    const stored = parsed(load("browser", "options"));
    for (const name of KEPT) this.#field(name).value = stored[name] ?? "";
    this.#field("api_key").value = load("tab", "api_key");
    this.#form.addEventListener("input", () => this.#save());
    byId("reset-button").addEventListener("click", () => this.#reset());
    closeBeside(this.#dialog);
    this.#dialog.addEventListener("close", () => onClose(this.key !== this.#keyBefore));
  }

  /** The API key, or "". */
  get key() {
    return this.#field("api_key").value.trim();
  }

  /** The system prompt, or "". */
  get system() {
    return this.#field("system").value.trim();
  }

  /** What a request's body gets from the drawer. */
  get body() {
    const body = {};
    for (const name of NUMBERS)
      if (this.#field(name).value !== "") body[name] = Number(this.#field(name).value);
    const nodes = this.#field("draft_nodes").value.trim();
    if (/^0+$/.test(nodes)) body.method = "ar"; // the same race without a draft
    else if (nodes) body.draft_nodes = /^\d+$/.test(nodes) ? Number(nodes) : nodes;
    if (this.#field("strategy").value) body.strategy = this.#field("strategy").value;
    return body;
  }

  /** Opens the drawer at a field. */
  open(name = "system") {
    this.#keyBefore = this.key;
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#field(name).focus();
  }

  /** Sets a field, as if the user had written it. */
  set(name, value) {
    this.#field(name).value = value;
    this.#save();
  }

  /** Shows the server's own values in the empty fields. */
  showDefaults(defaults) {
    for (const name of NUMBERS)
      if (typeof defaults[name] === "number" && name !== "seed")
        this.#field(name).placeholder = shown(name, defaults[name]);
  }

  #field(name) {
    return this.#form.elements[name];
  }

  #reset() {
    for (const name of KEPT) this.#field(name).value = "";
    this.#save();
  }

  #save() {
    const values = KEPT.map((name) => [name, this.#field(name).value]).filter(([, value]) => value);
    save("browser", "options", values.length ? JSON.stringify(Object.fromEntries(values)) : "");
    save("tab", "api_key", this.key);
  }
}

function shown(name, value) {
  if (name === "max_tokens" && value < 0) return "no limit";
  return String(Number(value.toPrecision(6))); // the core's numbers have single precision
}

function parsed(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return {};
  }
}

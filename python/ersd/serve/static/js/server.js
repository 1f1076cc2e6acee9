// What the page says of its server: the model's name, its draft, and whether it can be used yet.

import { getJson } from "./api.js";
import { byId, make } from "./dom.js";

const RETRY = 1500; // ms

/** Asks the server about itself until it answers, and shows that in the header. */
export class ServerInfo {
  #attempt = 0;
  #onReady;
  #onKey;

  /** onReady gets (model, props); onKey is called if the server wants an API key. */
  constructor(onReady, onKey) {
    this.#onReady = onReady;
    this.#onKey = onKey;
  }

  /** Asks now, with this API key; an attempt before this one is given up. */
  async ask(key) {
    const attempt = ++this.#attempt;
    try {
      const [models, props] = await Promise.all([getJson("v1/models", key), getJson("props", key)]);
      if (attempt !== this.#attempt) return;
      const model = models.data[0].id;
      this.#show(model, props);
      this.#onReady(model, props);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#say(error.message);
      if (error.status === 401) this.#onKey();
      else setTimeout(() => attempt === this.#attempt && this.ask(key), RETRY);
    }
  }

  #say(sentence) {
    byId("model").replaceChildren(make("span", { class: "state" }, sentence));
  }

  #show(model, props) {
    const name = (path) => path.split(/[\\/]/).pop().replace(/\.gguf$/, "");
    const draft = props.draft_model_path;
    const facts = [
      make("strong", { title: props.model_path }, name(model)),
      fact(draft ? `draft ${name(draft)}` : "no draft", draft),
      fact(`context ${props.default_generation_settings.n_ctx} tokens`),
    ];
    if (props.exact.holds) facts.push(fact("exact", props.exact.reason));
    byId("model").replaceChildren(...facts);
    document.title = `${name(model)} · ersd`;
  }
}

function fact(text, title) {
  return make("span", { class: "fact", title }, text);
}

// The conversation: turns of a message and its answer, and the one generation that may be running.

import { streamChat } from "./api.js";
import { announce } from "./dom.js";
import { Answer, UserMessage } from "./messages.js";

/** Sends messages and keeps the turns that are on the page. */
export class Conversation {
  model = null; // the name that requests carry
  #list;
  #panel;
  #options;
  #onChange;
  #turns = []; // {message, answer}
  #abort = null; // of the running generation

  /** onChange is called when a generation starts, goes on or ends, and when turns come or go. */
  constructor({ list, panel, options, onChange }) {
    this.#list = list;
    this.#panel = panel;
    this.#options = options;
    this.#onChange = onChange;
  }

  /** Whether an answer is being generated. */
  get busy() {
    return this.#abort !== null;
  }

  /** How many turns there are. */
  get length() {
    return this.#turns.length;
  }

  /** The text of the last answer, or "". */
  get lastAnswer() {
    return this.#turns.at(-1)?.answer.content ?? "";
  }

  /** Sends a new message. */
  send(text) {
    const turn = { answer: null };
    turn.message = new UserMessage(text, (edited) => this.#replace(turn, edited));
    this.#turns.push(turn);
    this.#list.append(turn.message.element);
    return this.#generate(turn);
  }

  /** Stops the running generation and keeps what it wrote. */
  stop() {
    this.#abort?.abort();
    this.#abort = null;
  }

  /** Generates the last answer again. */
  regenerate() {
    const turn = this.#turns.at(-1);
    return turn && this.#generate(turn);
  }

  /** Lets the user change the last message. */
  editLast() {
    this.#turns.at(-1)?.message.edit();
  }

  /** Forgets all turns. */
  clear() {
    this.stop();
    this.#turns = [];
    this.#list.replaceChildren();
    this.#panel.show(null);
    this.#onChange();
  }

  #replace(turn, text) {
    this.stop();
    this.#dropFrom(this.#turns.indexOf(turn));
    return this.send(text);
  }

  #dropFrom(index) {
    for (const { message, answer } of this.#turns.splice(index)) {
      message.element.remove();
      answer.element.remove();
    }
  }

  async #generate(turn) {
    this.stop();
    this.#dropFrom(this.#turns.indexOf(turn) + 1);
    const abort = (this.#abort = new AbortController());
    turn.answer?.element.remove();
    const { body, key } = this.#options;
    const answer = (turn.answer = new Answer({
      options: body,
      panel: this.#panel,
      onWrite: () => this.#onChange(),
      onRegenerate: () => this.#generate(turn),
    }));
    turn.message.element.after(answer.element);
    this.#panel.show(answer.run);
    announce("The model answers.");
    this.#onChange({ started: true });
    try {
      for await (const chunk of streamChat(this.#request(body), key, abort.signal)) {
        answer.add(chunk);
        this.#panel.refresh(answer.run);
      }
      answer.finish();
    } catch (error) {
      if (error.name === "AbortError") answer.finish(true);
      else answer.fail(error);
    }
    if (this.#abort === abort) this.#abort = null;
    this.#panel.refresh(answer.run, true);
    this.#onChange();
  }

  // Earlier messages without an answer are left out: most chat templates want roles to alternate.
  #request(body) {
    const { system } = this.#options;
    const messages = system ? [{ role: "system", content: system }] : [];
    const last = this.#turns.at(-1);
    for (const { message, answer } of this.#turns) {
      if (!answer.content && message !== last.message) continue;
      messages.push({ role: "user", content: message.text });
      if (answer.content) messages.push({ role: "assistant", content: answer.content });
    }
    return { ...(this.model && { model: this.model }), messages, draft_trees: true, ...body };
  }
}

// What a turn of the conversation looks like: the user's message and the model's answer.

import { announce, button, copyText, make } from "./dom.js";
import { Placer } from "./placer.js";
import { Run, count } from "./run.js";
import { Writer } from "./writer.js";

const ENDS = { length: "cut at the token limit", content_filter: "cut by a filter" };

/** A message of the user. onEdit is called with the new text. */
export class UserMessage {
  #text = make("div", { class: "bubble" });
  #actions = make("div", { class: "actions" });
  #onEdit;

  constructor(text, onEdit) {
    this.text = text;
    this.#onEdit = onEdit;
    this.#text.textContent = text;
    this.#actions.append(copyButton(() => this.text), button("Edit", () => this.edit()));
    const article = make("article", { "aria-label": "You" }, this.#text, this.#actions);
    this.element = make("li", { class: "message user" }, article);
  }

  /** Lets the user change the text in its place. */
  edit() {
    if (this.#text.hidden) return;
    const box = make("textarea", { "aria-label": "Edit your message", rows: "3" });
    box.value = this.text;
    const form = make("form", { class: "editor" }, box, make("div", { class: "actions" },
      button("Cancel", () => close()), make("button", { type: "submit", class: "primary" }, "Send")));
    const close = () => {
      form.remove();
      this.#text.hidden = this.#actions.hidden = false;
      this.#actions.lastChild.focus();
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (box.value.trim()) this.#onEdit(box.value.trim());
    });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) form.requestSubmit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.#text.hidden = this.#actions.hidden = true;
    this.#text.after(form);
    box.focus();
  }
}

/** An answer of the model, from its first token on. */
export class Answer {
  content = "";
  run;
  #body = make("div", { class: "text" });
  #foot = make("footer", { class: "foot" });
  #article = make("article", { "aria-label": "Model", "aria-busy": "true" }, this.#body, this.#foot);
  #placer = new Placer();
  #writer = new Writer(this.#body);
  #end = null; // finish_reason
  #pieces = []; // that the next frame writes
  #frame = 0;
  #onWrite;
  #onRegenerate;

  /**
   * options are the request's, and the panel shows steps. onWrite is called when text was written,
   * onRegenerate for another answer.
   */
  constructor({ options, panel, onWrite, onRegenerate }) {
    this.run = new Run(options);
    this.#onWrite = onWrite;
    this.#onRegenerate = onRegenerate;
    this.element = make("li", { class: "message answer" }, this.#article);
    this.#body.addEventListener("pointerover", (event) => this.#peek(panel, event));
    this.#body.addEventListener("pointerleave", (event) => this.#peek(panel, event));
    this.#body.addEventListener("click", ({ target }) => {
      const step = target.closest(".token")?.dataset.step;
      if (step !== undefined && getSelection().isCollapsed) panel.choose(this.run, Number(step));
    });
  }

  /** Takes a chunk of the stream. */
  add(chunk) {
    const tokens = this.run.add(chunk);
    const choice = chunk.choices?.[0];
    const text = choice?.delta?.content ?? "";
    this.#end = choice?.finish_reason ?? this.#end;
    this.content += text;
    this.#pieces.push(...this.#placer.add(text, tokens));
    this.#frame ||= requestAnimationFrame(() => this.#write());
  }

  /** Ends the answer; it may have been stopped by the user. */
  finish(stopped = false) {
    this.#close();
    const { run } = this;
    const notes = [];
    if (run.nTokens) {
      const calls = run.nCalls ? ` in ${count(run.nCalls, "call")}` : "";
      notes.push(count(run.nTokens, "token") + calls);
    }
    if (run.speed) notes.push(`${run.speed.toFixed(1)} tokens/s`);
    if (run.seed !== null) notes.push(`seed ${run.seed}`);
    if (!this.content && !stopped) notes.unshift("an empty answer");
    const end = stopped ? "stopped" : ENDS[this.#end];
    if (end) notes.push(end);
    this.#foot.append(make("span", { class: "notes" }, notes.join(" · ")), this.#actions("Regenerate"));
    announce(stopped ? "Stopped." : `Answer: ${this.content}`);
  }

  /** Ends the answer with a sentence that says what went wrong. */
  fail(error) {
    this.#close();
    this.#body.append(make("p", { class: "error", role: "alert" }, error.message));
    this.#foot.append(this.#actions("Try again"));
  }

  #write() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const piece of this.#pieces.splice(0)) this.#writer.write(piece);
    this.#onWrite();
  }

  #close() {
    this.#pieces.push(...this.#placer.end());
    this.#write();
    this.#writer.end();
    this.run.finished = true;
    this.#article.setAttribute("aria-busy", "false");
  }

  #actions(again) {
    const copy = this.content ? copyButton(() => this.content) : null;
    return make("div", { class: "actions" }, copy, button(again, this.#onRegenerate));
  }

  #peek(panel, event) {
    const step = event.type === "pointerleave" ? undefined : event.target.closest(".token")?.dataset.step;
    for (const token of this.#body.querySelectorAll(".of-step")) token.classList.remove("of-step");
    if (step === undefined || event.pointerType === "touch") return panel.peek(null);
    for (const token of this.#body.querySelectorAll(`[data-step="${step}"]`)) token.classList.add("of-step");
    panel.peek(this.run, Number(step));
  }
}

function copyButton(text) {
  const made = button("Copy", async () => {
    made.textContent = (await copyText(text())) ? "Copied" : "Not copied";
    announce(made.textContent);
    setTimeout(() => (made.textContent = "Copy"), 1500);
  });
  return made;
}

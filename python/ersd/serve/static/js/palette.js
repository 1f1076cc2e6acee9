// All commands of the page in one list, which is filtered by typing.

import { byId, closeBeside, make } from "./dom.js";

/** A dialog of commands {name, keys, run}; a command whose `when` is false is left out. */
export class Palette {
  #dialog = byId("palette");
  #box = byId("palette-box");
  #list = byId("palette-list");
  #commands;
  #found = [];
  #chosen = 0;

  constructor(commands) {
    this.#commands = commands;
    this.#box.addEventListener("input", () => this.#filter());
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("click", ({ target }) => {
      const item = target.closest("[role=option]");
      if (item) this.#run([...this.#list.children].indexOf(item));
    });
    closeBeside(this.#dialog);
  }

  /** Opens the list, or closes it if it is open. */
  toggle() {
    if (this.#dialog.open) return this.#dialog.close();
    this.#box.value = "";
    this.#dialog.showModal();
    this.#filter();
  }

  #filter() {
    const words = this.#box.value.toLowerCase().split(/\s+/);
    this.#found = this.#commands.filter(({ name, when }) =>
      (when?.() ?? true) && words.every((word) => name.toLowerCase().includes(word)));
    this.#list.replaceChildren(...this.#found.map(({ name, keys }, i) =>
      make("li", { role: "option", id: `command-${i}` }, make("span", {}, name),
        keys ? make("kbd", {}, keys) : null)));
    if (!this.#found.length) this.#list.append(make("li", { class: "none" }, "No such command"));
    this.#choose(0);
  }

  #choose(index) {
    const n = this.#found.length;
    this.#chosen = n ? (index + n) % n : 0;
    [...this.#list.children].forEach((item, i) => item.setAttribute("aria-selected", i === this.#chosen));
    if (!n) return this.#box.removeAttribute("aria-activedescendant");
    this.#box.setAttribute("aria-activedescendant", `command-${this.#chosen}`);
    this.#list.children[this.#chosen].scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    if (event.key === "ArrowDown") this.#choose(this.#chosen + 1);
    else if (event.key === "ArrowUp") this.#choose(this.#chosen - 1);
    else if (event.key === "Enter" && !event.isComposing) this.#run(this.#chosen);
    else return;
    event.preventDefault();
  }

  #run(index) {
    this.#dialog.close();
    this.#found[index]?.run();
  }
}

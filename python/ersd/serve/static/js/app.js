// The page: it puts the parts together, and says which keys do what.

import { Conversation } from "./conversation.js";
import { announce, byId, copyText, icon } from "./dom.js";
import { Options } from "./options.js";
import { Palette } from "./palette.js";
import { Panel } from "./panel.js";
import { ServerInfo } from "./server.js";
import { load, save } from "./storage.js";

const THEMES = ["system", "light", "dark"];
const NEAR_END = 48; // px from the end of the messages within which the page follows new text

const box = byId("box");
const messages = byId("messages");
let following = true; // whether the end of the messages is kept in sight

const panel = new Panel();
const options = new Options((otherKey) => {
  if (otherKey) server.ask(options.key);
  box.focus();
});
const conversation = new Conversation({ list: byId("list"), panel, options, onChange });
const server = new ServerInfo(onReady, () => options.open("api_key"));
const palette = new Palette([
  { name: "New chat", run: newChat },
  { name: "Stop the answer", keys: "Esc", run: () => conversation.stop(), when: () => conversation.busy },
  { name: "Regenerate the answer", run: () => conversation.regenerate(), when: hasTurns },
  { name: "Edit the last message", keys: "↑ in an empty box", run: editLast, when: hasTurns },
  { name: "Copy the last answer", run: copyLast, when: () => conversation.lastAnswer !== "" },
  { name: "Options", run: () => options.open() },
  { name: "System prompt", run: () => options.open("system") },
  { name: "Draft nodes", run: () => options.open("draft_nodes") },
  { name: "API key", run: () => options.open("api_key") },
  { name: "Show or hide draft trees", run: () => (panel.open = !panel.open) },
  { name: "Walk through the calls", keys: "← →", run: walk, when: hasTurns },
  { name: "Colour drafted tokens, or not", run: toggleColours },
  { name: "Theme: system", run: () => setTheme("system") },
  { name: "Theme: light", run: () => setTheme("light") },
  { name: "Theme: dark", run: () => setTheme("dark") },
  { name: "Write a message", keys: "/", run: () => box.focus() },
]);

function hasTurns() {
  return conversation.length > 0;
}

function onReady(model, props) {
  conversation.model = model;
  options.showDefaults(props.default_generation_settings.params);
}

function onChange({ started = false } = {}) {
  byId("welcome").hidden = hasTurns();
  byId("stop-button").hidden = !conversation.busy;
  byId("send-button").hidden = conversation.busy;
  if (started) following = true;
  if (following) messages.scrollTop = messages.scrollHeight;
  else byId("latest-button").hidden = false;
}

function send() {
  const text = box.value.trim();
  if (!text || conversation.busy) return;
  box.value = "";
  fitBox();
  conversation.send(text);
}

function editLast() {
  conversation.editLast();
}

function newChat() {
  conversation.clear();
  announce("New chat.");
  box.focus();
}

async function copyLast() {
  announce((await copyText(conversation.lastAnswer)) ? "Copied." : "Not copied.");
}

function walk() {
  panel.open = true;
  byId("steps").focus();
}

function toggleColours() {
  const plain = document.body.classList.toggle("uncoloured");
  save("browser", "uncoloured", plain ? "yes" : "");
}

function setTheme(theme) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  save("browser", "theme", theme === "system" ? "" : theme);
  const label = `Theme: ${theme}`;
  const button = byId("theme-button");
  button.title = label;
  button.setAttribute("aria-label", label);
  button.replaceChildren(icon(theme));
}

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  announce(byId("theme-button").title);
}

// The box grows with its text, as far as chat.css lets it.
function fitBox() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

function onBoxKey(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && !box.value && hasTurns()) {
    event.preventDefault();
    editLast();
  }
}

function onKey(event) {
  const typing = event.target.closest("input, textarea, select");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") palette.toggle();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "Escape" && conversation.busy) conversation.stop();
  else if (event.key === "/" && !typing) box.focus();
  else if (event.key === "?" && !typing) palette.toggle();
  else return;
  event.preventDefault();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("stop-button").addEventListener("click", () => {
  conversation.stop();
  box.focus();
});
byId("welcome").addEventListener("click", ({ target }) => {
  if (target.matches("button")) conversation.send(target.textContent);
});
byId("latest-button").addEventListener("click", () => {
  following = true;
  messages.scrollTop = messages.scrollHeight;
});
messages.addEventListener("scroll", () => {
  following = messages.scrollHeight - messages.scrollTop - messages.clientHeight < NEAR_END;
  byId("latest-button").hidden = following;
});
byId("hint-button").addEventListener("click", () => {
  options.set("draft_nodes", "16");
  conversation.regenerate();
});
byId("commands-button").addEventListener("click", () => palette.toggle());
byId("new-button").addEventListener("click", newChat);
for (const id of ["panel-button", "unfold-button"])
  byId(id).addEventListener("click", () => (panel.open = !panel.open));
byId("theme-button").addEventListener("click", nextTheme);
byId("options-button").addEventListener("click", () => options.open());
box.addEventListener("input", fitBox);
box.addEventListener("keydown", onBoxKey);
document.addEventListener("keydown", onKey);

setTheme(document.documentElement.dataset.theme ?? "system");
document.body.classList.toggle("uncoloured", load("browser", "uncoloured") !== "");
server.ask(options.key);

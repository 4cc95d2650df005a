// @ts-check
/** The page: what is on it, and what happens when it is used. */

import { prepareAsk } from "./ask.js";
import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import { byId, el, isComposing } from "./dom.js";
import { t } from "./i18n.js";
import { placeIcons } from "./icons.js";
import { errorText } from "./message_view.js";
import { applyAppearance, change, prepareDialog, settings } from "./settings.js";
import { showConversations } from "./sidebar.js";
import { listConversations } from "./store.js";
import { exported, importFrom } from "./transfer.js";
import { Transcript } from "./transcript.js";

const OPEN_KEY = "ilmari.open";
const EXAMPLES = /** @type {const} */ (["example1", "example2", "example3"]);
const ANNOUNCED_CHARS = 1000;

/** @typedef {import("./store.js").Conversation} Conversation */

const input = byId("input");
const banner = byId("banner");
const narrow = matchMedia("(max-width: 800px)");

/** Says something to those who listen to the page. @param {string} text */
const announce = (text) => (byId("announcer").textContent = text);

const chat = new Chat({
  opened: showOpen,
  added: (message) => {
    transcript.add(message);
    showState();
    if (message.role === "assistant") announce(t("working"));
  },
  dropped: (from) => transcript.drop(from),
  grown: (message) => transcript.grow(message),
  ended: (message) => {
    transcript.end(message);
    showState();
    const { content, error, state } = message;
    if (state === "failed") announce(errorText(error?.kind ?? "odd", error?.said ?? ""));
    else announce(t("finished", { text: content.slice(0, ANNOUNCED_CHARS) }));
    if (error?.kind === "unreachable" || error?.kind === "cut") connection.check();
  },
  listed: showList,
  unkept: () => showBanner(t("errorStorage")),
});

const transcript = new Transcript(byId("scroller"), byId("messages"), byId("jump"), {
  // What was pressed goes away with these; the focus must not get lost with it.
  edit: (message, text) => (input.focus(), chat.edit(message, text)),
  regenerate: () => (input.focus(), chat.regenerate()),
  giveResults: (message, results) => (input.focus(), chat.giveResults(message, results)),
  enterKey: () => openSettings("api_key"),
});

const connection = new Connection((state, models, before, said) => {
  if (state === "ok") {
    showModels(models);
    if (before === "unreachable" || before === "refused") showBanner(t("back"), null, true);
    else hideBanner();
  } else if (state === "key") showBanner(t("errorKey"), { text: t("enterKey"), click: () => openSettings("api_key") });
  else showBanner(state === "unreachable" ? t("errorUnreachable") : errorText(state, said));
});

const openSettings = prepareDialog(() => connection.check());

/** @param {string} text  @param {{ text: string, click: () => void } | null} [button]  @param {boolean} [passing] */
function showBanner(text, button = null, passing = false) {
  banner.replaceChildren(el("span", {}, text), button && el("button", { type: "button", click: button.click }, button.text));
  banner.classList.toggle("good", passing);
  banner.hidden = false;
  if (passing) setTimeout(() => banner.classList.contains("good") && hideBanner(), 4000);
}

function hideBanner() {
  banner.hidden = true;
  banner.replaceChildren();
}

/** @param {string[]} models */
function showModels(models) {
  const select = byId("model");
  const chosen = models.includes(settings.model) ? settings.model : (models[0] ?? "");
  select.replaceChildren(...(models.length ? models : [""]).map((name) => el("option", { value: name }, name || t("noModel"))));
  select.value = chosen;
  change({ model: chosen });
}

/** The open conversation, whole. */
function showOpen() {
  remember();
  transcript.show(chat.messages, chat.running?.reply);
  showState();
  showList();
}

/** What depends on whether there are messages, and whether one is being written. */
function showState() {
  byId("empty").hidden = chat.messages.length > 0;
  byId("send").hidden = Boolean(chat.running);
  byId("stop").hidden = !chat.running;
  byId("messages").classList.toggle("busy", Boolean(chat.running));
  byId("heading").textContent = chat.conversation?.title || t("untitled");
}

async function showList() {
  remember();
  byId("heading").textContent = chat.conversation?.title || t("untitled");
  const conversations = await chat.kept(listConversations(), chat.conversation ? [chat.conversation] : []);
  showConversations(byId("conversations"), conversations, chat, open);
}

/** Which conversation is open, for when the page is opened again. */
function remember() {
  try {
    localStorage.setItem(OPEN_KEY, chat.conversation?.id ?? "");
  } catch {
    // The page then begins with an empty one.
  }
}

/** The conversation that was open last. */
function remembered() {
  try {
    return localStorage.getItem(OPEN_KEY);
  } catch {
    return null;
  }
}

/** @param {Conversation | null} conversation */
async function open(conversation) {
  showSidebar(!narrow.matches);
  await chat.open(conversation);
  // On a phone the focus would bring up its keyboard.
  (narrow.matches ? byId("sidebar-open") : input).focus();
}

/** @param {boolean} shown */
function showSidebar(shown) {
  document.body.classList.toggle("with-sidebar", shown);
  byId("sidebar").inert = !shown;
  byId("sidebar-open").setAttribute("aria-expanded", String(shown));
  byId("main").inert = shown && narrow.matches;
}

/** What the page itself says in the reader's language, beside what is in its HTML. */
function showTexts() {
  byId("language").textContent = document.documentElement.lang === "en" ? "中文" : "English";
  byId("language").lang = document.documentElement.lang === "en" ? "zh-CN" : "en";
  byId("examples").replaceChildren(
    ...EXAMPLES.map((key) => el("button", { type: "button", click: () => send(t(key)) }, t(key))),
  );
}

/** @param {string} text */
async function send(text) {
  if (!text.trim() || chat.running) return;
  input.value = "";
  input.focus();
  await chat.send(text);
}

function isDark() {
  const { theme } = settings;
  return theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
}

/** @param {string} text  @param {string} name */
function download(text, name) {
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** @param {File | undefined} file */
async function importFile(file) {
  if (!file) return;
  let said;
  try {
    said = t("imported", { count: await importFrom(await file.text()) });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    said = t("importFailed");
  }
  showBanner(said, null, true);
  await showList();
}

function listen() {
  byId("composer").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    send(input.value);
  });
  input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    // With an input method, Enter chooses a character.
    if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
    event.preventDefault();
    send(input.value);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || isComposing(event) || document.querySelector("dialog[open]")) return;
    if (byId("main").inert) {
      showSidebar(false);
      byId("sidebar-open").focus();
    } else chat.stop();
  });
  const click = (/** @type {string} */ id, /** @type {() => void} */ act) => byId(id).addEventListener("click", act);
  click("stop", () => {
    chat.stop();
    input.focus();
  });
  click("new", () => open(null));
  click("sidebar-open", () => {
    const shown = !document.body.classList.contains("with-sidebar");
    showSidebar(shown);
    if (shown && narrow.matches) byId("new").focus();
  });
  click("veil", () => showSidebar(false));
  click("settings-open", () => openSettings());
  click("settings-cancel", () => byId("settings").close());
  click("theme", () => {
    change({ theme: isDark() ? "light" : "dark" });
    applyAppearance();
  });
  click("language", () => {
    change({ language: document.documentElement.lang === "en" ? "zh" : "en" });
    applyAppearance();
    showTexts();
    showOpen();
    connection.check();
  });
  click("export", async () => download(await exported(), "ilmari-conversations.json"));
  click("import", () => byId("file").click());
  byId("file").addEventListener("change", async () => {
    await importFile(byId("file").files[0]);
    byId("file").value = "";
  });
  byId("model").addEventListener("change", () => change({ model: byId("model").value }));
  narrow.addEventListener("change", () => showSidebar(!narrow.matches));
}

async function begin() {
  placeIcons();
  applyAppearance();
  showTexts();
  prepareAsk();
  listen();
  showSidebar(!narrow.matches);
  connection.check();
  const conversations = await chat.kept(listConversations(), []);
  const last = remembered();
  await chat.open(conversations.find((/** @type {Conversation} */ each) => each.id === last) ?? null);
  input.focus();
}

begin();

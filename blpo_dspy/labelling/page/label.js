// The page of a person who labels. The server says what is shown; nothing is kept here but what is loaded ahead.
import { Zoom } from "./zoom.js";

const $ = id => document.getElementById(id);
const SIDES = [["ArrowLeft", "←"], ["ArrowRight", "→"], ["ArrowDown", "↓"]];
const STATES = { label: "labelled", "cannot tell": "can’t tell", skip: "skipped" };
const PAN = 60; // pixels
const loaded = new Map(); // pictures by address, those ahead too
let view = null;
let busy = false;

const zoom = new Zoom(state => {
  $("fit").setAttribute("aria-pressed", String(state.actual));
});

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function button(text, key, action, attributes = {}) {
  const made = element("button", text, { type: "button", ...attributes });
  if (key) {
    made.append(" ", element("kbd", key));
    made.setAttribute("aria-keyshortcuts", key);
  }
  made.addEventListener("click", action);
  return made;
}

async function ask(path, action = null) {
  const request = action && {
    method: "POST", body: JSON.stringify(action), headers: { "Content-Type": "application/json" },
  };
  let reply;
  try {
    reply = await fetch(path, request ?? {});
  } catch {
    throw new Error("The server does not answer. What it confirmed is kept; start the command again and open the address that it prints.");
  }
  const found = await reply.json().catch(() => ({ error: `The server failed (${reply.status}); what it confirmed is kept.` }));
  if (!reply.ok) throw Object.assign(new Error(found.error), { status: reply.status });
  return found;
}

function complain(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// Does something once, however often a key is pressed meanwhile, and shows what the server says then.
async function run(work, said = "") {
  if (busy) return;
  busy = true;
  complain("");
  try {
    show(await work(), said);
  } catch (error) {
    if (error.status === 409 && view?.item) show(await ask(`state?at=${view.item.position}`));
    complain(error.message);
  } finally {
    busy = false;
  }
}

const go = at => run(() => ask(at === null || at === undefined ? "state" : `state?at=${at}`));

function answer(state, label = null) {
  if (!view?.item || (state === "label" && !ready())) return;
  const { position, version } = view.item;
  run(() => ask("act", { do: "answer", position, version, state, label, reason: $("reason").value }), "Saved. ");
}

const undo = () => run(() => ask("act", { do: "undo" }), "Taken back. ");
const decide = (decision, label = null) => {
  const { position, version } = view.item;
  run(() => ask("act", { do: "decide", position, version, decision, label }), "Saved. ");
};

// A picture that cannot be seen is not labelled.
const ready = () => view.item.images.every(({ url }) => loaded.get(url)?.complete && loaded.get(url).naturalWidth);

function picture(url) {
  if (!loaded.has(url)) {
    const image = new Image();
    image.decoding = "sync";
    image.draggable = false;
    image.src = url;
    loaded.set(url, image);
  }
  return loaded.get(url);
}

function showPictures({ images, position }) {
  const named = images.length > 1;
  const frames = images.map(({ name, url }, number) => {
    const what = named ? `${name}, picture ${number + 1} of ${images.length}` : "the picture";
    const frame = element("figure", "", { tabindex: "0", "aria-label": `${what}; plus and minus enlarge it` });
    const image = picture(url);
    image.alt = named ? `${name} of item ${position + 1}` : `Picture ${position + 1}`;
    if (named) frame.append(element("figcaption", view.paired ? `${view.labels[number].label}: ${name}` : name));
    const appear = () => {
      image.classList.add("ready");
      zoom.draw();
      enable();
    };
    if (image.complete && image.naturalWidth) image.classList.add("ready");
    else {
      image.addEventListener("load", appear, { once: true });
      image.addEventListener("error", () => failed(frame, url), { once: true });
      if (image.complete) failed(frame, url);
    }
    frame.append(image);
    return frame;
  });
  $("pictures").className = frames.length === 2 ? "two" : frames.length > 2 ? "many" : "";
  $("pictures").replaceChildren(...frames);
  zoom.show(frames);
}

async function failed(frame, url) {
  loaded.delete(url); // a later visit tries again
  let why = "this picture cannot be shown";
  try {
    await ask(url);
  } catch (error) {
    why = error.message;
  }
  frame.append(element("div", `${why[0].toUpperCase()}${why.slice(1)}. Skip it, or answer “can’t tell”.`, { class: "wrong", role: "alert" }));
}

function showTexts(texts) {
  $("texts").hidden = !texts?.length;
  $("texts").replaceChildren(...(texts ?? []).flatMap(({ name, text, length, cut }) => [
    element("h2", name),
    element("p", text),
    ...(cut ? [element("small", `cut here; ${length.toLocaleString("en")} characters in all`)] : []),
  ]));
  $("texts").scrollTop = 0;
}

function keyOf(place) {
  return view.paired ? SIDES[place][1] : view.labels[place].key;
}

function showLabels() {
  const stated = view.item?.answer;
  $("labels").replaceChildren(...view.labels.map(({ label }, place) => {
    const made = button(label, keyOf(place), () => answer("label", label), { class: "label" });
    made.setAttribute("aria-pressed", String(stated?.label === label));
    return made;
  }));
  $("labels").hidden = !view.item || !view.labels.length || Boolean(view.item.reveal);
  $("score").hidden = !view.item || !view.scores || Boolean(view.item.reveal);
  if (view.scores) {
    Object.assign($("number"), { min: view.scores.low, max: view.scores.high, step: view.scores.step ?? "any" });
    $("number").value = stated?.label ?? "";
    $("number").setAttribute("aria-label", `Score from ${view.scores.low} to ${view.scores.high}`);
  }
}

function showProgress({ labelled, cannot, skipped, before, total, shares, undo: undoable }) {
  const done = labelled + cannot + before;
  Object.assign($("bar"), { max: total, value: done });
  const parts = [`${done} of ${total}`];
  if (cannot) parts.push(`${cannot} can’t tell`);
  if (skipped) parts.push(`${skipped} skipped`);
  $("count").textContent = parts.join(" · ");
  $("shares").replaceChildren(...shares.map(([label, count]) => {
    const item = element("li", `${label} `);
    item.append(element("b", String(count)));
    return item;
  }));
  $("undo").disabled = !undoable;
}

// Shown only once the person has answered, so that it cannot lead the answer.
function showReveal(reveal) {
  $("reveal").hidden = !reveal;
  $("reveal").replaceChildren();
  if (!reveal) return;
  const list = element("dl");
  for (const [name, value] of reveal.facts) list.append(element("dt", name), element("dd", value));
  const choices = element("div", "", { class: "choices", role: "group", "aria-label": "What the table is to say" });
  for (const { text, key, decision, label } of reveal.choices) {
    choices.append(button(text, key, () => decide(decision, label)));
  }
  choices.firstChild?.classList.add("first");
  const warning = reveal.warning ? [element("p", reveal.warning, { class: "warn" })] : [];
  $("reveal").replaceChildren(list, choices, ...warning);
}

function enable() {
  const can = Boolean(view?.item) && ready();
  for (const made of $("labels").querySelectorAll("button")) made.disabled = !can;
  $("score").querySelector("button").disabled = !can;
}

function announce(said) {
  const { item, progress } = view;
  if (!item) return `${said}All done.`;
  const state = item.answer ? `, ${STATES[item.answer.state]}${item.answer.label ? ` ${item.answer.label}` : ""}` : "";
  const revealed = item.reveal ? ` ${item.reveal.facts.map(fact => fact.join(": ")).join(". ")}` : "";
  return `${said}Picture ${item.position + 1} of ${progress.total}${state}.${revealed}`;
}

function show(found, said = "") {
  const before = view;
  view = found;
  const { item, ahead } = view;
  const focused = [...$("labels").children].indexOf(document.activeElement);
  const same = before?.item && item && before.item.position === item.position;
  document.title = `${view.mode === "review" ? "Review" : "Label"} ${item ? item.position + 1 : "(done)"}`;
  $("task").textContent = view.task;
  $("pictures").hidden = !item;
  $("done").hidden = Boolean(item);
  if (!item) $("done-text").textContent = view.done;
  $("figures").hidden = !view.figures;
  $("enough").hidden = !view.enough;
  $("enough").textContent = view.enough?.text ?? "";
  if (item && !same) showPictures(item);
  showTexts(item?.texts);
  showLabels();
  showReveal(item?.reveal);
  showProgress(view.progress);
  $("reason").value = item?.answer?.reason ?? "";
  for (const name of ["reason", "cannot", "skip"]) $(name).hidden = !item || Boolean(item.reveal);
  $("fit").hidden = !item;
  $("back").disabled = item ? item.before === null : view.last === null;
  $("next").hidden = !item?.answer || Boolean(item.reveal && !item.decided);
  enable();
  if (item?.reveal) $("reveal").querySelector("button").focus({ preventScroll: true });
  else if (view.scores && item) $("number").focus({ preventScroll: true });
  else if (focused >= 0) $("labels").children[focused]?.focus({ preventScroll: true });
  else if (document.activeElement?.id === "reason") document.activeElement.blur();
  $("live").textContent = announce(said);
  const wanted = new Set([...(item?.images ?? []), ...ahead.flatMap(one => one.images)].map(image => image.url));
  for (const url of loaded.keys()) if (!wanted.has(url)) loaded.delete(url);
  for (const url of wanted) picture(url);
}

const back = () => {
  const at = view?.item ? view.item.before : view?.last;
  if (at !== null && at !== undefined) go(at);
};

const KEYS = {
  c: () => answer("cannot tell"), s: () => answer("skip"), b: back, u: undo, f: () => zoom.toggle(),
  n: () => $("next").hidden || go(null), r: () => $("reason").focus(), "?": () => $("keys").showModal(),
  "+": () => zoom.by(1.25), "=": () => zoom.by(1.25), "-": () => zoom.by(0.8), Backspace: back,
};

function onKey(event) {
  const { key, target } = event;
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z" && target.tagName !== "INPUT") {
    event.preventDefault();
    if (!event.repeat) undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open || !view) return;
  if (target.id === "reason") {
    if (key === "Enter" || key === "Escape") {
      event.preventDefault();
      if (view.scores) $("number").focus(); else target.blur();
    }
    return;
  }
  if (target.id === "number" && (/^[\d.,eE+-]$/.test(key) || ["Backspace", "Enter", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].includes(key))) return;
  if (target.tagName === "BUTTON" && event.repeat && (key === "Enter" || key === " ")) {
    event.preventDefault(); // a key that is held down is one answer
    return;
  }
  const action = actionOf(key);
  if (!action) return;
  event.preventDefault();
  if (!event.repeat || action.repeats) action();
}

function actionOf(key) {
  const choice = view.item?.reveal?.choices.find(one => one.key.toLowerCase() === key.toLowerCase());
  if (choice) return () => decide(choice.decision, choice.label);
  if (view.item && !view.item.reveal) {
    const place = view.paired ? SIDES.findIndex(([name]) => name === key) : view.labels.findIndex(one => one.key && one.key === key);
    if (place >= 0 && place < view.labels.length) return () => answer("label", view.labels[place].label);
  }
  const pan = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] }[key];
  if (pan && !view.paired) return Object.assign(() => zoom.move(...pan), { repeats: true });
  const named = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (!named || (view.item?.reveal && ["c", "s", "r"].includes(key.toLowerCase()))) return null;
  return ["+", "=", "-"].includes(key) ? Object.assign(() => named(), { repeats: true }) : named;
}

const CLICKS = {
  cannot: KEYS.c, skip: KEYS.s, back, undo, fit: KEYS.f, next: KEYS.n, help: KEYS["?"],
};
for (const [id, action] of Object.entries(CLICKS)) $(id).addEventListener("click", action);
$("score").addEventListener("submit", event => {
  event.preventDefault();
  answer("label", $("number").value);
});
document.addEventListener("keydown", onKey);

const HELP = [
  ["1 to 9", "the label with this key"], ["← → ↓", "of a pair: the first, the second, neither"],
  ["R", "write why; Enter returns"], ["C", "can’t tell"], ["S", "skip: the picture comes again later"],
  ["B", "back to the answer before"], ["N", "on to the next picture"], ["U, Ctrl Z", "take the last answer back"],
  ["K R J D", "in a review: keep, relabel as you or the judge say, drop"],
  ["F", "full size (100 %), or fit"], ["+ −, wheel", "enlarge, reduce"], ["arrows, drag", "move an enlarged picture"],
];
for (const [key, what] of HELP) {
  const term = element("dt");
  term.append(element("kbd", key));
  $("keys-list").append(term, element("dd", what));
}
go(null);

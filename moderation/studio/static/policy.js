// The policy page: an editor that is checked while somebody types, and sliders on what the policy does to stored images.

import {
  EditorState, EditorView, keymap, lineNumbers, drawSelection, highlightActiveLine, highlightActiveLineGutter, hoverTooltip,
  defaultKeymap, history, historyKeymap, indentWithTab, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting, HighlightStyle,
  autocompletion, completionKeymap, closeBrackets, closeBracketsKeymap, lintGutter, setDiagnostics, lintKeymap, searchKeymap,
  highlightSelectionMatches, yaml, tags,
} from "/static/vendor/codemirror.js";
import { complete, explain, load } from "/static/completion.js";
import { post, say } from "/static/studio.js";

const $ = (id) => document.getElementById(id);
const workbench = $("workbench"), file = workbench.dataset.file, canSave = workbench.dataset.saved === "yes";
const path = (name) => `/policy/${file}/${name}`;
let saved = $("text").value;

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--link)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
  { tag: [tags.string, tags.attributeValue], color: "var(--pass)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--review)" },
]);
const theme = EditorView.theme({
  "&": { height: "100%", backgroundColor: "var(--card)", color: "var(--ink)", fontSize: "13.5px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused": { outline: "2px solid var(--link)", outlineOffset: "-2px" },
  ".cm-gutters": { backgroundColor: "var(--card)", color: "var(--muted)", border: "0" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--sunk) 60%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "color-mix(in srgb, var(--link) 25%, transparent)" },
  ".cm-selectionMatch": { backgroundColor: "color-mix(in srgb, var(--review) 20%, transparent)" },
  ".cm-tooltip": { backgroundColor: "var(--card)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "8px", fontFamily: "var(--sans)", maxWidth: "30rem" },
  ".cm-tooltip .explained": { padding: "0.5rem 0.75rem", whiteSpace: "pre-wrap", fontSize: "13px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--link)", color: "var(--card)" },
  ".cm-panels": { backgroundColor: "var(--sunk)", color: "var(--ink)" },
  ".cm-diagnostic": { whiteSpace: "pre-wrap", fontSize: "13px" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--block)" },
  ".cm-diagnostic-warning": { borderLeftColor: "var(--review)" },
});

// In a shadow root the editor's styles need no exception in the page's Content-Security-Policy.
const root = $("editor").attachShadow({ mode: "open" }), place = document.createElement("div");
const filling = new CSSStyleSheet();
filling.replaceSync("div.place { height: 100%; }");
root.adoptedStyleSheets = [filling];
place.className = "place";
root.append(place);

const view = new EditorView({
  parent: place,
  root,
  state: EditorState.create({
    doc: saved,
    extensions: [
      lineNumbers(), lintGutter(), highlightActiveLine(), highlightActiveLineGutter(), history(), drawSelection(), indentOnInput(),
      bracketMatching(), closeBrackets(), highlightSelectionMatches(), indentUnit.of("  "), yaml(), syntaxHighlighting(colours), theme,
      autocompletion({ override: [complete] }), hoverTooltip(explain), EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": "The policy's text" }),
      keymap.of([
        { key: "Mod-s", preventDefault: true, run: () => { askToSave(); return true; } },
        ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap, indentWithTab,
      ]),
      EditorView.updateListener.of((update) => { if (update.docChanged) changed(); }),
    ],
  }),
});
const text = () => view.state.doc.toString();

// --- Checking and computing while somebody types -------------------------------------------------------------------------

let checking, drafting, waiting, checked = null;
function changed() {
  const same = text() === saved;
  $("state").textContent = same ? "unchanged" : "not saved";
  $("save").disabled = same || !canSave;
  document.querySelector(".effect").classList.add("stale");
  clearTimeout(waiting);
  waiting = setTimeout(() => { check(); draft(); }, 350);
}

async function check() {
  checking?.abort();
  const mine = checking = new AbortController(), asked = text();
  try {
    const { findings, note } = await (await post(path("check"), { text: asked }, mine.signal)).json();
    if (asked !== text()) return;
    checked = asked;
    list(findings, note);
  } catch (error) { if (error.name !== "AbortError") say(error.message); }
}

function diagnostic({ line, column, length, level, message, hint }) {
  const doc = view.state.doc, there = doc.line(Math.min(Math.max(line, 1), doc.lines));
  const from = Math.min(there.from + Math.max(column - 1, 0), there.to), to = Math.min(from + Math.max(length, 1), there.to);
  return { from, to: Math.max(from, to), severity: level, message: hint ? `${message}\n${hint}` : message };
}

function list(findings, note) {
  view.dispatch(setDiagnostics(view.state, findings.filter((one) => one.here).map(diagnostic)));
  const panel = $("problems");
  panel.hidden = !findings.length && !note;
  panel.replaceChildren(...findings.map((one) => {
    const button = document.createElement("button"), where = document.createElement("b");
    button.type = "button";
    button.className = one.level;
    where.textContent = `${one.here ? `Line ${one.line}` : `${one.file}, line ${one.line}`}: `;
    button.append(where, one.message, one.hint ? ` – ${one.hint}` : "");
    if (one.here) button.addEventListener("click", () => {
      const { from } = diagnostic(one);
      view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
      view.focus();
    });
    return button;
  }));
  if (note) { const last = document.createElement("p"); last.className = "muted"; last.textContent = note; panel.append(last); }
}

async function draft() {
  drafting?.abort();
  const mine = drafting = new AbortController(), asked = text();
  try {
    for (;;) {
      const found = await (await post(path("draft"), { text: asked }, mine.signal)).json();
      if (asked !== text()) return;
      $("progress").hidden = found.state !== "working";
      if (found.state === "working") {
        $("progress-what").textContent = found.what;
        $("progress-share").value = found.share;
        await new Promise((done) => setTimeout(done, 250));
        continue;
      }
      if (found.state === "ready") { if (!toWrite) show(found); }
      else if (found.state === "problem") $("effect").replaceChildren(notice(found.message));
      else mistakes(found.findings, asked);
      return;
    }
  } catch (error) { if (error.name !== "AbortError") say(error.message); }
}

// Mistakes of the language are known at once; the whole check, which knows the model, may take longer.
function mistakes(findings, asked) {
  if (checked !== asked) list(findings, "");
  if (!$("effect").querySelector(".totals")) $("effect").replaceChildren(notice("The effect shows once the text has no mistakes."));
}

function notice(message) {
  const found = document.createElement("p");
  found.className = "notice review";
  found.textContent = message;
  return found;
}

// --- The effect, and its sliders -----------------------------------------------------------------------------------------

let key = "";
const opened = new Set();
function show(found) {
  key = found.key;
  const held = document.activeElement?.closest?.(".rule-effect")?.dataset.rule, name = document.activeElement?.dataset?.name;
  $("effect").innerHTML = found.html;
  document.querySelector(".effect").classList.remove("stale");
  for (const rule of $("effect").querySelectorAll(".rule-effect")) {
    zones(rule);
    if (opened.has(rule.dataset.rule)) sheet(rule);
    if (rule.dataset.rule === held && name) rule.querySelector(`.limit.${name}`)?.focus({ preventScroll: true });
  }
}

const slider = (rule, name) => rule.querySelector(`.limit.${name}`);
// A slider has steps, and a threshold need not be on one: as long as it is not moved, it is what the policy says.
const valueOf = (input) => (input === null ? null : Number(input.dataset.exact ?? input.value));
const limits = (rule) => ({ key, rule: rule.dataset.rule, review: valueOf(slider(rule, "review")), block: valueOf(slider(rule, "block")) });

// The shares of the plot at which review and block begin, as far as the chart's own plane goes.
function zones(rule) {
  const left = 38 / 330, width = 286 / 330;
  const any = rule.querySelector(".limit");
  if (!any) return;
  const low = Number(any.min), high = Number(any.max);
  const at = (value) => left + width * Math.min(1, Math.max(0, (value - low) / (high - low)));
  const { review, block } = limits(rule);
  const set = (name, from, to) => {
    const zone = rule.querySelector(`.zone.${name}`);
    if (zone) { zone.style.left = `${100 * from}%`; zone.style.width = `${100 * Math.max(0, to - from)}%`; }
  };
  if (review !== null) set("review", at(review), block === null ? left + width : at(block));
  if (block !== null) set("block", at(block), left + width);
}

// One request at a time: the newest place of the slider is asked for when the one before is answered.
let moving = false, next = null;
async function move(rule) {
  next = rule;
  if (moving) return;
  moving = true;
  try {
    while (next) {
      const asked = next;
      next = null;
      const found = await (await post(path("moved"), limits(asked))).json();
      for (const [name, value] of Object.entries(found.rule)) for (const place of asked.querySelectorAll(`[data-n=${name}]`)) place.textContent = value;
      for (const [name, value] of Object.entries(found.totals)) for (const place of document.querySelectorAll(`[data-total=${name}]`)) place.textContent = value;
    }
  } catch (error) { say(error.message); } finally { moving = false; }
}

$("effect").addEventListener("input", (event) => {
  const input = event.target;
  if (!input.matches(".limit")) return;
  const rule = input.closest(".rule-effect"), other = slider(rule, input.dataset.name === "review" ? "block" : "review");
  delete input.dataset.exact;
  if (other !== null) {  // review never lies above block
    const most = valueOf(other), mine = Number(input.value);
    if (input.dataset.name === "review" ? mine > most : mine < most) { input.value = most; input.dataset.exact = most; }
  }
  rule.querySelector(`[data-shown=${input.dataset.name}]`).textContent = Number(valueOf(input).toFixed(6)).toString();
  zones(rule);
  move(rule);
});

// Where a slider is let go, its number goes into the text: the newest one, when it rests for a moment.
let toWrite = null, resting;
$("effect").addEventListener("change", (event) => {
  if (!event.target.matches(".limit")) return;
  toWrite = event.target;
  clearTimeout(resting);
  resting = setTimeout(write, 300);
});
async function write() {
  const input = toWrite, rule = input.closest(".rule-effect"), value = Number(valueOf(input).toFixed(6)), before = text();
  try {
    const found = await (await post(path("threshold"), { text: before, rule: rule.dataset.rule, name: input.dataset.name, value })).json();
    if (toWrite !== input || value !== Number(valueOf(input).toFixed(6))) return;  // it has moved on, and rests again soon
    toWrite = null;
    if (before === text()) replace(found.text);
  } catch (error) {
    toWrite = null;
    say(error.message);
    draft();
  }
}

// Only what differs is changed, so that the cursor and the history stay as they are.
function replace(wanted) {
  const now = text();
  let start = 0, end = 0;
  const most = Math.min(now.length, wanted.length);
  while (start < most && now[start] === wanted[start]) start++;
  while (end < most - start && now[now.length - 1 - end] === wanted[wanted.length - 1 - end]) end++;
  if (now === wanted) return;
  view.dispatch({ changes: { from: start, to: now.length - end, insert: wanted.slice(start, wanted.length - end) }, effects: EditorView.scrollIntoView(start, { y: "nearest" }) });
}

async function sheet(rule) {
  const images = rule.querySelector("[data-images]"), button = rule.querySelector("[data-sheet]");
  button.textContent = "Hide images";
  try {
    images.innerHTML = await (await post(path("sheet"), limits(rule))).text();
  } catch (error) { say(error.message); }
}
$("effect").addEventListener("click", (event) => {
  const button = event.target.closest("[data-sheet]");
  if (!button) return;
  const rule = button.closest(".rule-effect"), id = rule.dataset.rule;
  if (opened.delete(id)) { rule.querySelector("[data-images]").replaceChildren(); button.textContent = "Show images"; } else { opened.add(id); sheet(rule); }
});

// --- Saving --------------------------------------------------------------------------------------------------------------

async function askToSave() {
  if (!canSave || text() === saved) return;
  try {
    $("difference").innerHTML = await (await post(path("difference"), { text: text() })).text();
    $("save-problem").textContent = "";
    $("review-save").showModal();
  } catch (error) { say(error.message); }
}
$("save").addEventListener("click", askToSave);
$("confirm-save").addEventListener("click", async () => {
  const wanted = text();
  try {
    const { digest } = await (await post(path("save"), { text: wanted, digest: workbench.dataset.digest })).json();
    workbench.dataset.digest = digest;
    saved = wanted;
    $("review-save").close();
    $("state").textContent = "saved";
    $("save").disabled = text() === saved;
    say("Saved. Runs use it from now on; what is published does not change.");
  } catch (error) { $("save-problem").textContent = error.message; }
});
$("file")?.addEventListener("change", (event) => event.target.form.submit());
window.addEventListener("beforeunload", (event) => { if (canSave && text() !== saved) event.preventDefault(); });

load().catch((error) => say(error.message));
check();
draft();
window.studioEditor = view;  // for tests of the page

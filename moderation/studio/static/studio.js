// What all pages share: the key of writes, messages, blurred pictures, grids by keyboard, endless scrolling, search by picture.

export const csrf = document.querySelector("meta[name=csrf]").content;

const said = document.getElementById("said");
let silence;
export function say(text) {
  said.textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { said.textContent = ""; }, 9000);
}

// Sends JSON or a file; resolves to the answer, and says what went wrong.
export async function post(path, body, signal) {
  const json = !(body instanceof Blob);
  const answer = await fetch(path, {
    method: "POST",
    signal,
    headers: { "X-CSRF-Token": csrf, "Content-Type": json ? "application/json" : "application/octet-stream" },
    body: json ? JSON.stringify(body) : body,
  });
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
  return answer;
}

document.addEventListener("htmx:configRequest", (event) => { event.detail.headers["X-CSRF-Token"] = csrf; });
document.addEventListener("htmx:responseError", (event) => {
  say(event.detail.xhr.responseText.trim());
  const waiting = event.detail.target?.querySelector?.(".waiting") ?? (event.detail.target?.matches?.(".waiting") ? event.detail.target : null);
  if (waiting) waiting.textContent = event.detail.xhr.responseText.trim();
});
document.addEventListener("htmx:sendError", () => say("The studio does not answer: has it ended?"));

// Pictures are blurred until somebody points at them; whoever wants them clear says so once.
const clear = document.getElementById("clear");
clear.checked = localStorage.getItem("clear") === "yes";
const showClearly = () => document.documentElement.classList.toggle("clear", clear.checked);
clear.addEventListener("change", () => { localStorage.setItem("clear", clear.checked ? "yes" : "no"); showClearly(); });
showClearly();

document.addEventListener("error", (event) => {
  const image = event.target;
  if (!(image instanceof HTMLImageElement)) return;
  const picture = image.closest(".picture");
  image.remove();
  if (picture) { picture.classList.add("none"); picture.append("no preview"); }
}, true);

// The next page of a grid is fetched before its end comes into view.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); window.htmx.trigger(entry.target, "near"); }
}, { rootMargin: "1500px" });
const watch = (root) => root.querySelectorAll(".more").forEach((more) => watcher.observe(more));
document.addEventListener("htmx:load", (event) => {
  const root = event.detail.elt;
  if (root.matches?.(".more")) watcher.observe(root);
  watch(root);
});
document.addEventListener("DOMContentLoaded", () => watch(document));
watch(document);

// Arrow keys go from image to image.
document.addEventListener("keydown", (event) => {
  const shot = event.target.closest?.(".shot");
  if (!shot || event.ctrlKey || event.metaKey || event.altKey) return;
  const grid = shot.closest(".sheet"), all = [...grid.querySelectorAll(".shot")], at = all.indexOf(shot);
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
  all[to].scrollIntoView({ block: "nearest" });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest?.("input, textarea, select, #editor")) return;
  event.preventDefault();
  document.querySelector(".find input").focus();
});

document.getElementById("picture")?.addEventListener("change", async (event) => {
  const input = event.target, file = input.files[0], target = document.querySelector(input.dataset.target);
  if (!file) return;
  target.innerHTML = '<p class="card waiting">Searching all stored images <span class="spinner" aria-hidden="true"></span></p>';
  try {
    target.innerHTML = await (await post("/search/picture", file)).text();
    window.htmx.process(target);
  } catch (error) {
    target.textContent = "";
    say(error.message);
  }
});

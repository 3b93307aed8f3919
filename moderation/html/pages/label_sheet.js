"use strict";
(() => {
  const sample = JSON.parse(document.getElementById("sample").textContent);
  const images = sample.images;
  const key = `clip-moderation labels ${sample.identity}`;
  const words = { y: "yes", n: "no", u: "unsure", "-": "not labelled" };
  const values = { y: "true", n: "false", u: "unsure", "-": "" };
  const element = (id) => document.getElementById(id);
  let labels = Array(images.length).fill("-");
  let saved = labels.join("");
  let current = 0;
  let kept = true;

  const restore = () => {
    try {
      const found = JSON.parse(localStorage.getItem(key));
      const fits = (text) => typeof text === "string" && text.length === images.length && /^[ynu-]*$/.test(text);
      if (found && fits(found.labels) && fits(found.saved)) {
        labels = [...found.labels];
        saved = found.saved;
        current = Math.max(0, labels.indexOf("-"));
      }
    } catch {
      kept = false;
    }
  };
  const keep = () => {
    try {
      localStorage.setItem(key, JSON.stringify({ labels: labels.join(""), saved }));
    } catch {
      kept = false;
    }
  };
  const unsaved = () => labels.join("") !== saved;
  const say = (text) => { element("said").textContent = text; };

  const cells = images.map((_, index) => {
    const cell = document.createElement("button");
    cell.type = "button";
    cell.textContent = index + 1;
    cell.addEventListener("click", () => go(index));
    element("map").append(cell);
    return cell;
  });
  const mark = (index) => {
    cells[index].className = { y: "yes", n: "no", u: "unsure", "-": "" }[labels[index]];
    cells[index].setAttribute("aria-label", `image ${index + 1}, ${words[labels[index]]}`);
  };

  const show = () => {
    const image = images[current];
    const picture = element("picture");
    picture.hidden = image.picture === null;
    element("no-picture").hidden = image.picture !== null;
    if (image.picture !== null) picture.src = image.picture;
    element("place").textContent = `Image ${current + 1} of ${images.length}`;
    element("name").textContent = image.name;
    element("where").open = false;
    element("where").firstElementChild.blur(); // or the space bar would open it
    const original = element("original");
    if (image.original) {
      original.href = image.original;
      original.title = "Open the original";
    } else {
      original.removeAttribute("href");
      original.removeAttribute("title");
    }
    element("frame").textContent = image.frame ? `frame ${image.frame}, counted from 0` : "";
    for (const [label, id] of [["y", "yes"], ["n", "no"], ["u", "unsure"]]) {
      element(id).setAttribute("aria-pressed", String(labels[current] === label));
    }
    element("back").disabled = current === 0;
    element("next").disabled = current === images.length - 1;
    cells.forEach((cell, index) => {
      if (index === current) cell.setAttribute("aria-current", "true");
      else cell.removeAttribute("aria-current");
    });
    const done = labels.filter((label) => label !== "-").length;
    element("done").textContent = `${done} of ${images.length} labelled`;
    element("progress").value = done;
    element("save").classList.toggle("waiting", unsaved());
    element("not-kept").hidden = kept;
  };
  const go = (index) => {
    current = Math.min(Math.max(index, 0), images.length - 1);
    show();
  };
  const label = (value) => {
    labels[current] = labels[current] === value ? "-" : value;
    mark(current);
    keep();
    say(`Image ${current + 1}: ${words[labels[current]]}`);
    if (labels[current] === "-") return show();
    if (!labels.includes("-")) say("All images are labelled: save the CSV");
    go(current + 1);
  };

  const reveal = () => element("stage").classList.add("clear");
  const hide = () => element("stage").classList.remove("clear");
  const save = () => {
    const lines = images.map((image, index) => `${image.line}${values[labels[index]]}\r\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([sample.header, ...lines], { type: "text/csv;charset=utf-8" }));
    link.download = sample.fileName;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    saved = labels.join("");
    keep();
    show();
    const open = labels.filter((value) => value === "-").length;
    say(`Saved as ${sample.fileName}, where your browser puts downloads${open ? `; ${open} not labelled yet` : ""}`);
  };

  const keys = {
    y: () => label("y"),
    n: () => label("n"),
    u: () => label("u"),
    j: () => go(current + 1),
    arrowright: () => go(current + 1),
    arrowdown: () => go(current + 1),
    k: () => go(current - 1),
    arrowleft: () => go(current - 1),
    arrowup: () => go(current - 1),
    s: save,
  };
  const isView = (event) => event.key.toLowerCase() === "v" || (event.key === " " && !event.target.closest("button, input, summary"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isView(event)) {
      event.preventDefault();
      reveal();
      return;
    }
    const act = keys[event.key.toLowerCase()];
    if (!act || (event.repeat && !/^(j|k|arrow.*)$/i.test(event.key))) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key.toLowerCase() === "v" || event.key === " ") hide();
  });
  window.addEventListener("blur", hide);
  element("hold").addEventListener("pointerdown", reveal);
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) element("hold").addEventListener(end, hide);
  element("hold").addEventListener("contextmenu", (event) => event.preventDefault());
  for (const [id, value] of [["yes", "y"], ["no", "n"], ["unsure", "u"]]) {
    element(id).addEventListener("click", () => label(value));
  }
  element("back").addEventListener("click", () => go(current - 1));
  element("next").addEventListener("click", () => go(current + 1));
  element("save").addEventListener("click", save);
  window.addEventListener("beforeunload", (event) => {
    if (unsaved()) event.preventDefault();
  });

  restore();
  images.forEach((_, index) => mark(index));
  document.body.classList.add("ready");
  show();
})();

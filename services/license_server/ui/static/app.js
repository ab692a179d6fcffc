"use strict";
// What pages need beyond HTML and htmx. Everything works on what the server sends; nothing is kept here.

const all = (selector, root = document) => root.querySelectorAll(selector);

// --- colours ---

function showTheme() {
  const theme = document.documentElement.dataset.theme || "system";
  for (const choice of all("[data-theme-choice]")) choice.hidden = false;
  for (const button of all("[data-theme-is]")) button.setAttribute("aria-pressed", button.dataset.themeIs === theme);
}

function chooseTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch {
    // It holds for this page only.
  }
  showTheme();
}

// --- times: the server says them in UTC, people read them in their own zone ---

const two = (number) => String(number).padStart(2, "0");

const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;
const local = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at)}`;
const dayOf = (at) => `${at.toLocaleDateString("en", { month: "short" })} ${two(at.getDate())}`;

function localTimes(root) {
  for (const time of all("time[datetime]:not([data-keep]):not([data-local])", root)) {
    const at = new Date(time.dateTime);
    if (!time.dataset.as) time.title = time.textContent;
    time.textContent = { hour: clock, day: dayOf }[time.dataset.as]?.(at) ?? local(at);
    time.dataset.local = "";
  }
}

// --- dialogs ---

let opener = null;

function openDialog(dialog) {
  if (!dialog.isConnected || dialog.open) return;
  dialog.showModal();
  const first = dialog.querySelector("[autofocus]") || dialog.querySelector(".dialog-body :is(input, select, textarea, a, button):not([type=hidden])");
  if (first) first.focus();
  dialog.addEventListener("close", () => {
    dialog.remove();
    const back = opener && (opener.isConnected ? opener : document.getElementById(opener.id));
    if (back) back.focus();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
}

// --- clicks ---

function copy(button) {
  const said = button.querySelector("[data-said]");
  const before = said.textContent;
  const text = document.getElementById(button.dataset.copies).textContent.trim();
  navigator.clipboard.writeText(text).then(
    () => { said.textContent = "Copied"; },
    () => { said.textContent = "Select it and copy"; },
  );
  setTimeout(() => { said.textContent = before; }, 2000);
}

function reveal(button) {
  const input = document.getElementById(button.dataset.shows);
  const shown = input.type === "password";
  input.type = shown ? "text" : "password";
  button.textContent = shown ? "Hide" : "Show";
  button.setAttribute("aria-pressed", shown);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("button, a, summary");
  for (const menu of all("details[data-menu][open]")) if (!menu.contains(event.target)) menu.open = false;
  if (!target) return;
  if (target.dataset.themeIs) chooseTheme(target.dataset.themeIs);
  if (target.dataset.copies) copy(target);
  if (target.dataset.shows) reveal(target);
  if ("dismisses" in target.dataset) target.parentElement.remove();
  if ("closes" in target.dataset && target.closest("dialog")) {
    event.preventDefault();
    target.closest("dialog").close();
  }
  if (target.getAttribute("hx-target") === "#dialog" && !target.closest("dialog")) opener = target;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of all("details[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// --- files that are dragged in ---

function dropZone(zone) {
  const input = zone.querySelector("input[type=file]");
  const form = input.form;
  const chosen = zone.querySelector("[data-chosen]");
  input.addEventListener("change", () => {
    if (!input.files.length) return;
    chosen.hidden = false;
    chosen.textContent = input.files[0].name;
    form.requestSubmit();
  });
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  zone.addEventListener("dragleave", (event) => {
    if (!zone.contains(event.relatedTarget)) zone.classList.remove("over");
  });
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  });
}

// --- charts: the pointer or the arrow keys read a value ---

function chart(figure) {
  const points = figure.dataset.chart.split(";").map((point) => point.split(",").map(Number));
  const plot = figure.querySelector("svg");
  const cursor = plot.querySelector(".cursor");
  const reading = figure.querySelector("[data-reading]");
  const summary = [...reading.childNodes];
  let at = points.length - 1;
  const part = (words, number, kind) => {
    const span = document.createElement("span");
    const strong = document.createElement("strong");
    strong.textContent = number;
    span.append(strong, ` ${words}`);
    if (kind) span.className = kind;
    return span;
  };
  const read = (number) => {
    at = Math.min(Math.max(number, 0), points.length - 1);
    const [seconds, used, capacity, denied] = points[at];
    const x = ((at + 0.5) * 1000) / points.length;
    cursor.setAttribute("d", `M${x} 0V200`);
    const when = document.createElement("span");
    when.textContent = local(new Date(seconds * 1000));
    reading.replaceChildren(when, part(`of ${capacity} in use`, used));
    if (denied) reading.append(part("refused", denied, "bad-text"));
  };
  const rest = () => {
    cursor.setAttribute("d", "M-9 0V200");
    reading.replaceChildren(...summary);
  };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    read(Math.floor(((event.clientX - box.left) / box.width) * points.length));
  });
  plot.addEventListener("pointerleave", rest);
  plot.addEventListener("blur", rest);
  plot.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: 24, PageUp: -24, Home: -points.length, End: points.length }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    read(at + by);
  });
}

// --- what the server sent, now or later ---

function prepare(root) {
  localTimes(root);
  for (const zone of all("[data-drop]", root)) dropZone(zone);
  for (const figure of all("[data-chart]", root)) chart(figure);
  for (const dialog of all("dialog[data-opened]", root)) openDialog(dialog);
}

document.addEventListener("htmx:load", (event) => {
  const root = event.detail.elt;
  prepare(root.parentNode && root !== document.body ? root.parentNode : document);
});

// A page that nobody looks at does not ask; text that is being selected stays where it is.
document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.elt;
  if (!part.matches("[data-live]")) return;
  const selection = document.getSelection();
  const selecting = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  if (document.hidden || selecting) event.preventDefault();
});

document.addEventListener("htmx:sendError", () => { document.getElementById("offline").hidden = false; });
document.addEventListener("htmx:timeout", () => { document.getElementById("offline").hidden = false; });
document.addEventListener("htmx:afterOnLoad", () => { document.getElementById("offline").hidden = true; });

showTheme();

// Small helpers for the page. Names and labels are strangers' text: they become text nodes and nothing else.

export const $ = (id) => document.getElementById(id);

/** An element with properties, listeners (`on`) and children; strings are text. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "class") node.className = value;
    else if (name === "on") for (const [kind, listener] of Object.entries(value)) node.addEventListener(kind, listener);
    else if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Seconds as people read them, such as 1:02.5. */
export function clock(seconds, decimals = 1) {
  const scale = 10 ** decimals;
  const all = Math.round(Math.max(0, seconds || 0) * scale) / scale;
  const hours = Math.floor(all / 3600);
  const minutes = Math.floor(all / 60) % 60;
  const rest = (all % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

/** A colour for each label: that of a class by its place, any other by its letters. */
export function colours(classes) {
  const places = new Map(classes.map((name, index) => [name, index]));
  return (label, alpha = 1) => {
    if (label === "background") return `hsl(225 8% 55% / ${alpha})`;
    const place = places.get(label) ?? [...label].reduce((sum, one) => (31 * sum + one.codePointAt(0)) % 997, 7);
    return `hsl(${(200 + place * 137.508) % 360} 70% ${[50, 64, 42][place % 3]}% / ${alpha})`;
  };
}

/** A sentence above the work, which goes after a while unless it is a problem. */
export function say(text, bad = false) {
  const close = el("button", { type: "button", class: "plain", on: { click: () => box.remove() } }, "Close");
  const box = el("div", { class: bad ? "message bad" : "message", role: bad ? "alert" : "status" }, el("span", {}, text), close);
  const all = $("messages");
  while (all.children.length > 2) all.firstChild.remove();
  all.append(box);
  if (!bad) setTimeout(() => box.remove(), 8000);
}

/** Theme by choice, or as the system has it; tells listeners when it changes. */
export function themes(select, changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const dark = select.value === "dark" || (select.value === "auto" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    changed();
  };
  const kept = remembered("avpea:theme");
  if (["light", "dark"].includes(kept)) select.value = kept;
  select.addEventListener("change", () => {
    remember("avpea:theme", select.value);
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}

/** What the browser keeps for this page; a browser may refuse, and the page works without. */
export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    /* private windows keep nothing */
  }
}

export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** What this tab keeps until it is closed. */
export function recall(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    /* it is full, or keeps nothing */
  }
}

export function recalled(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

export function fill(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  if (chosen !== undefined && pairs.some(([value]) => value === chosen)) select.value = chosen;
}

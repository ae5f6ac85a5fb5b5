// The list of events: the same as the regions on the timeline, for keyboards, screen readers and small screens.

import { $, clock, el, percent } from "/static/ui.js";

/** Show events; `tell` has select, relabel, retime and remove, each with the event's number. */
export function listEvents(events, selected, colour, sure, tell) {
  const list = $("events");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.part : null;
  list.replaceChildren(...events.map((event, number) => row(event, number, number === selected, colour, sure, tell)));
  $("no-events").hidden = events.length > 0;
  if (focused) (list.children[Math.max(0, selected)]?.querySelector(`[data-part="${focused}"]`) ?? list).focus?.();
}

/** Let another event be the chosen one. */
export function choose(selected) {
  [...$("events").children].forEach((item, number) => {
    item.classList.toggle("selected", number === selected);
    if (number === selected) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  });
  $("events").children[selected]?.scrollIntoView({ block: "nearest" });
}

function row(event, number, chosen, colour, sure, tell) {
  const which = `event ${number + 1}`;
  const known = sure(event);
  const dot = el("button", {
    type: "button", class: "dot", title: `Play ${which}`, "aria-label": `Play ${which}, ${event.label}, from ${clock(event.start_seconds)}`,
    on: { click: () => tell.select(number, true, true) },
  });
  dot.dataset.part = "dot";
  dot.style.background = colour(event.label);
  const label = el("input", {
    value: event.label, maxLength: 200, autocomplete: "off", "aria-label": `Label of ${which}`,
    on: { change: (change) => tell.relabel(number, change.target.value.trim()), focus: () => tell.select(number, false) },
  });
  label.setAttribute("list", "labels");
  label.dataset.part = "label";
  const time = (name, title) => {
    const field = el("input", {
      type: "number", step: "0.1", min: "0", value: String(Math.round(1000 * event[name]) / 1000), "aria-label": `${title} of ${which}, in seconds`,
      on: { change: (change) => tell.retime(number, name, change.target.value), focus: () => tell.select(number, false) },
    });
    field.dataset.part = name;
    return field;
  };
  const doubt = event.doubtful ? " ?" : "";
  const item = el("li", { class: chosen ? "event selected" : "event" },
    dot, label,
    el("span", { class: "times" }, time("start_seconds", "Start"), "–", time("end_seconds", "End"), "s"),
    el("span", { class: "sure", title: "The model’s confidence" }, known === null ? "" : `${percent(known)}${doubt}`),
    el("button", { type: "button", "aria-label": `Delete ${which}, ${event.label}`, title: "Delete", on: { click: () => tell.remove(number) } }, "×"));
  if (chosen) item.setAttribute("aria-current", "true");
  return item;
}

// The list of events: the same as the regions on the timeline, for keyboards, screen readers and small screens.

import { $, clock, el, percent } from "/static/ui.js";

const TOLD = ["label", "start_seconds", "end_seconds"]; // what a row says of an event, whatever the model is

/** Show events; `tell` has select, relabel, retime and remove, each with the event's number.
 *
 * A row whose event is the same as before stays, with what somebody is typing in it. */
export function listEvents(events, selected, colour, sure, tell) {
  const list = $("events");
  const before = [...list.children];
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const place = before.findIndex((item) => item.contains(focused));
  events.forEach((event, number) => {
    const item = before[number];
    const stays = item && TOLD.every((name) => item.event[name] === event[name]);
    const shown = stays ? item : row(event, number, tell);
    if (!item) list.append(shown);
    else if (!stays) item.replaceWith(shown);
    renew(shown, event, colour, sure);
  });
  for (const item of before.slice(events.length)) item.remove();
  choose(selected, false);
  $("no-events").hidden = events.length > 0;
  const next = selected >= 0 ? selected : Math.min(place, events.length - 1);
  if (focused && !focused.isConnected) focusOn(focused.dataset.part, next);
}

/** The same part of the chosen event, or of the one that is now where a deleted one was. */
function focusOn(part, number) {
  const list = $("events");
  (list.children[number]?.querySelector(`[data-part="${part}"]`) ?? list).focus();
}

/** What a model says of the event of a row. */
function renew(item, event, colour, sure) {
  const known = sure(event);
  item.querySelector(".dot").style.background = colour(event.label);
  item.querySelector(".sure").textContent = known === null ? "" : `${percent(known)}${event.doubtful ? " ?" : ""}`;
}

/** Let another event be the chosen one. */
export function choose(selected, reveal = true) {
  [...$("events").children].forEach((item, number) => {
    item.classList.toggle("selected", number === selected);
    if (number === selected) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  });
  if (reveal) $("events").children[selected]?.scrollIntoView({ block: "nearest" });
}

function row(event, number, tell) {
  const which = `event ${number + 1}`;
  // What is refused leaves the row, with the text that it had; a row that was replaced is not seen any more.
  const typed = (field, text, act) => {
    act(field.value);
    field.value = text;
  };
  const dot = el("button", {
    type: "button", class: "dot", title: `Play ${which}`, "aria-label": `Play ${which}, ${event.label}, from ${clock(event.start_seconds)}`,
    on: { click: () => tell.select(number, true, true) },
  });
  dot.dataset.part = "dot";
  const label = el("input", {
    value: event.label, maxLength: 200, autocomplete: "off", "aria-label": `Label of ${which}`,
    on: {
      change: () => typed(label, event.label, (text) => tell.relabel(number, text.trim())),
      focus: () => tell.select(number, false),
    },
  });
  label.setAttribute("list", "labels");
  label.dataset.part = "label";
  const time = (name, title) => {
    const second = String(Math.round(1000 * event[name]) / 1000);
    const field = el("input", {
      type: "number", step: "0.1", min: "0", value: second, "aria-label": `${title} of ${which}, in seconds`,
      on: {
        change: () => typed(field, second, (text) => tell.retime(number, name, text)),
        focus: () => tell.select(number, false),
      },
    });
    field.dataset.part = name;
    return field;
  };
  const remove = el("button", {
    type: "button", "aria-label": `Delete ${which}, ${event.label}`, title: "Delete",
    on: { click: () => tell.remove(number) },
  }, "×");
  remove.dataset.part = "remove";
  const item = el("li", { class: "event" },
    dot, label,
    el("span", { class: "times" }, time("start_seconds", "Start"), "–", time("end_seconds", "End"), "s"),
    el("span", { class: "sure", title: "The model’s confidence" }), remove);
  item.event = event;
  return item;
}

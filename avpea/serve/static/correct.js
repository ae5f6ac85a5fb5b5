// Corrections: events that are chosen, moved, added, deleted and named.

import { stage, state } from "/static/parts.js";
import { inOrder } from "/static/review.js";
import { refresh } from "/static/show.js";
import { $, clock, say } from "/static/ui.js";

const NEW_SECONDS = 1; // length of an event that is added with a key or the button

const rounded = (second) => Math.round(second * 1000) / 1000;
const seconds = () => state.seconds; // and not the list's, which may lack a video of the library

export function select(number, seek = false, play = false) {
  if (seek) stage.seek(state.review.events[number]?.start_seconds ?? 0, play);
  if (state.selected === number) return;
  state.selected = number;
  const event = state.review.events[number];
  if (event) $("label").value = event.label;
  refresh(false);
}

/** Store events after an edit, and keep the changed one chosen. */
export function edit(events, changed) {
  const equal = (one) => ["label", "start_seconds", "end_seconds"].every((name) => one[name] === changed[name]);
  // Before the list is shown, which lets the focus follow the event.
  state.selected = changed ? inOrder(events).findIndex(equal) : -1;
  state.review.edit(events);
}

function replace(number, changes) {
  const events = [...state.review.events];
  events[number] = { ...events[number], ...changes };
  edit(events, events[number]);
}

export function changeTimes(number, start, end) {
  const from = rounded(Math.max(0, start));
  const to = rounded(Math.min(end, seconds()));
  if (to > from) replace(number, { start_seconds: from, end_seconds: to });
  else refresh();
}

export function retime(number, name, text) {
  const event = { ...state.review.events[number], [name]: Math.min(Number(text), seconds()) };
  if (text === "" || !(event.start_seconds >= 0 && event.start_seconds < event.end_seconds)) {
    say(`An event starts before it ends, both within the ${clock(seconds())} of the video.`, true);
    refresh();
    return;
  }
  replace(number, { [name]: rounded(event[name]) });
}

export function relabel(number, label) {
  if (label && label !== state.review.events[number].label) replace(number, { label });
  else refresh();
}

export function remove(number) {
  if (state.review.events[number]) edit(state.review.events.filter((_, other) => other !== number));
}

export function add(start, end) {
  const label = $("label").value.trim() || state.run?.classes[0];
  if (!label) {
    say("Write the label of the new event first.", true);
    $("label").focus();
    refresh();
    return;
  }
  const event = { start_seconds: rounded(Math.max(0, start)), end_seconds: rounded(Math.min(end, seconds())), label };
  if (event.end_seconds > event.start_seconds) edit([...state.review.events, event], event);
}

export function addHere() {
  const start = Math.min(stage.time, Math.max(0, seconds() - 0.1));
  add(start, start + NEW_SECONDS);
}

export function rename(number) {
  select(number);
  const field = $("events").children[number]?.querySelector('[data-part="label"]');
  field?.focus();
  field?.select();
}

export function toggleDone() {
  const { review } = state;
  if (review) review.edit(review.events, !review.done);
}

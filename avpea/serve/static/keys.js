// What each key does.

import { addHere, changeTimes, relabel, remove, rename, select, toggleDone } from "/static/correct.js";
import { next } from "/static/open.js";
import { stage, state, timeline } from "/static/parts.js";
import { $, el } from "/static/ui.js";

const KEYS = [
  ["Space", "play or pause"], ["← →", "one second back or on (with Shift a tenth)"], ["A", "add an event here"],
  ["[ ]", "let the chosen event begin or end here"], ["Delete", "delete the chosen event"], ["1 … 9", "give it that class"],
  ["E", "edit its label"], ["J K", "choose the next or the one before"], ["Ctrl+Z, Ctrl+Y", "undo, redo"],
  ["D", "mark the video as done, or not"], ["N", "next unsure video"], ["+ −", "zoom"], ["?", "this list"],
];

const typing = (node) => node.matches?.("input:not([type=range]), select, textarea") || node.isContentEditable;

function step(by) {
  const count = state.review?.events.length ?? 0;
  if (count) select((Math.max(state.selected, by > 0 ? -1 : 0) + by + count) % count, true);
}

export function zoomBy(by) {
  $("zoom").value = Number($("zoom").value) + by;
  timeline.zoom(Number($("zoom").value) / 100);
}

export function onKey(event) {
  if (document.querySelector("dialog[open]") || event.altKey) return;
  const control = event.ctrlKey || event.metaKey;
  if (control && !typing(event.target) && state.review && ["z", "y"].includes(event.key.toLowerCase())) {
    event.preventDefault();
    if (event.key.toLowerCase() === "y" || event.shiftKey) state.review.redo();
    else state.review.undo();
    return;
  }
  if (control || typing(event.target)) return;
  if (event.key === "?") return openHelp();
  if (event.key.toLowerCase() === "n" && state.run) return next();
  if (!state.review) return;
  const range = event.target.matches?.("input[type=range]");
  const button = event.target.matches?.("button, a, summary");
  const small = event.shiftKey ? 0.1 : 1;
  const chosen = state.review.events[state.selected];
  const acts = {
    " ": () => (button ? false : stage.toggle()),
    ArrowLeft: () => (range ? false : stage.seek(stage.time - small)),
    ArrowRight: () => (range ? false : stage.seek(stage.time + small)),
    a: addHere,
    "[": () => chosen && changeTimes(state.selected, stage.time, chosen.end_seconds),
    "]": () => chosen && changeTimes(state.selected, chosen.start_seconds, stage.time),
    Delete: () => remove(state.selected),
    Backspace: () => remove(state.selected),
    e: () => chosen && rename(state.selected),
    j: () => step(1),
    k: () => step(-1),
    d: toggleDone,
    "+": () => zoomBy(10),
    "-": () => zoomBy(-10),
  };
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = /^[1-9]$/.test(name) && chosen ? state.run?.classes[Number(name) - 1] : undefined;
  if (digit) relabel(state.selected, digit);
  else if (!acts[name] || acts[name]() === false) return;
  event.preventDefault();
}

export function openHelp() {
  $("help").showModal();
}

export function listKeys() {
  $("keys").replaceChildren(...KEYS.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)]));
}

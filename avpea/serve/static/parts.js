// The parts of the page, what it knows, and what the parts are told; main.js says who does what.

import { Stage } from "/static/stage.js";
import { Tasks } from "/static/tasks.js";
import { Timeline } from "/static/timeline.js";
import { $, colours } from "/static/ui.js";
import { Videos } from "/static/videos.js";

/** `opening` is the video that is being opened, as `open` has it; `review` and `seconds` are of the open one. */
export const state = {
  runs: [], run: null, video: null, opening: null, review: null, seconds: null, answer: null, selected: -1,
  colour: colours([]), job: null,
};

/** What a person does to a part, by name; main.js fills it. */
export const on = {};

export const videos = new Videos((id) => on.open(id), () => state.run?.run);
export const stage = new Stage((time) => (state.time = time));
export const timeline = new Timeline($("timeline"), $("video"), {
  seek: (second) => stage.playable || stage.seek(second),
  select: (number, seek) => on.select(number, seek),
  change: (number, start, end) => on.changeTimes(number, start, end),
  add: (start, end) => on.add(start, end),
  name: (number) => on.rename(number),
  hover: (at) => on.hover(at),
});
export const tasks = new Tasks({
  work: (title, body) => on.work(title, body), current: () => state.video, play: (id, second) => on.play(id, second),
  mark: (some, colour) => stage.mark(some, colour),
});

// Long work: its progress, and how it is cancelled.

import { runJob } from "/static/api.js";
import { state } from "/static/parts.js";
import { $, clock } from "/static/ui.js";

/** Run a job with progress that can be cancelled; one at a time. */
export async function work(title, body) {
  return shown(title, (signal, progress) => runJob(body, { signal, progress: (job) => progress(...stageOf(job)) }));
}

function stageOf(job) {
  if (!job.progress) return [job.state === "queued" ? "waiting for others" : "", null, null];
  const { stage: name, done, of } = job.progress;
  if (name === "decoding") return [of ? `decoding, ${clock(done, 0)} of ${clock(of, 0)}` : "decoding", done, of];
  return [`window ${Math.min(done + 1, of)} of ${of}`, done, of];
}

export async function shown(title, act) {
  state.job?.abort();
  const job = (state.job = new AbortController());
  const progress = (text, done, of) => {
    if (state.job !== job) return;
    $("task-text").textContent = text ? `${title}: ${text}` : title;
    if (of) $("task-bar").max = of;
    if (of) $("task-bar").value = done;
    else $("task-bar").removeAttribute("value");
  };
  $("task").hidden = false;
  progress("", null, null);
  try {
    return await act(job.signal, progress);
  } finally {
    if (state.job === job) {
      state.job = null;
      $("task").hidden = true;
    }
  }
}

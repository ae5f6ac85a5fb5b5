// What counts as an event: the same rule as avpea.tasks.avel.answer.Rule, on the seconds of `avpea predict --json`.

/** The events at a threshold and a shortest length, from an answer at any others. */
export function eventsAt(answer, threshold, shortest) {
  if (threshold === answer.threshold && shortest === answer.min_seconds) return answer.events;
  const kept = answer.seconds.map((second) => {
    const label = second.decided.label;
    return second.probabilities[label] >= threshold ? label : "background";
  });
  const found = [];
  for (let start = 0, stop; start < kept.length; start = stop) {
    stop = start + 1;
    while (stop < kept.length && kept[stop] === kept[start]) stop += 1;
    if (kept[start] === "background" || stop - start < shortest) continue;
    const run = answer.seconds.slice(start, stop);
    const mean = (of) => run.reduce((sum, second) => sum + of(second), 0) / run.length;
    found.push({
      label: kept[start],
      start_seconds: run[0].start_seconds,
      end_seconds: Math.min(run[run.length - 1].start_seconds + 1, answer.duration_seconds),
      confidence: mean((second) => second.probabilities[kept[start]]),
      doubtful: run.every((second) => second.decided.novelty !== null) && mean((second) => second.decided.novelty) > 1,
    });
  }
  return found;
}

/** How sure the model is of a label over a stretch: the mean probability, by cover; null if it does not know it. */
export function sureness(answer, event) {
  let sum = 0;
  let cover = 0;
  for (const second of answer?.seconds ?? []) {
    const chance = second.probabilities?.[event.label];
    if (chance === undefined) return null;
    const from = Math.max(second.start_seconds, event.start_seconds);
    const part = Math.min(second.start_seconds + 1, event.end_seconds) - from;
    if (part > 0) {
      sum += part * chance;
      cover += part;
    }
  }
  return cover > 0 ? sum / cover : null;
}

/** The classes with the largest probability anywhere, the largest first. */
export function topClasses(answer, count) {
  const best = new Map();
  for (const second of answer.seconds) {
    for (const [name, chance] of Object.entries(second.probabilities)) {
      if (name !== "background") best.set(name, Math.max(best.get(name) ?? 0, chance));
    }
  }
  return [...best].sort((one, other) => other[1] - one[1]).slice(0, count).map(([name]) => name);
}

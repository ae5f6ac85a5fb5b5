// The page in a real browser before a server that fails as a test wants it: node stubbed.mjs STATIC CHROMIUM MODULES
// Nothing listens: each request is answered here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [files, executablePath, modules] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const ADDRESS = "http://page.test/";
const TYPES = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html" };

const event = (label, start = 0) => ({ start_seconds: start, end_seconds: start + 1, label });
const labels = (events) => events.map((one) => one.label);
const runOf = (name) => ({ run: name, can: ["localize"], classes: [`${name}-class`], attention: false });
const answerOf = (name) => ({
  threshold: 0.5, min_seconds: 0, threshold_from: "val", remarks: [], duration_seconds: 10,
  events: [{ ...event(`${name}-class`), confidence: 0.9, doubtful: false }],
  seconds: [{
    start_seconds: 0, probabilities: { [`${name}-class`]: 0.9, background: 0.1 },
    decided: { label: `${name}-class`, novelty: null },
  }],
});

/** A server of videos, by name, with their reviews. `answers` has what it says instead, by method and path. */
class Stub {
  constructor(reviews, runs = []) {
    this.reviews = Object.fromEntries(Object.entries(reviews).map(([id, events]) =>
      [id, { events, revision: events.length ? 1 : 0, done: false }]));
    this.listed = Object.keys(reviews);
    this.runs = runs;
    this.answers = {};
    this.asked = [];
  }

  about(id) {
    const { revision, done } = this.reviews[id];
    const file = { video: id, name: `${id}.mp4`, seconds: 10, has_video: false, uploaded: false };
    return { ...file, revision, done, unsure: null, remarks: [] };
  }

  answer(method, place, body) {
    const [, id, what] = /^\/v1\/videos\/([^/]+)\/?(.*)$/.exec(place) ?? [];
    if (place === "/v1/runs") return { json: this.runs };
    if (place === "/v1/videos") return { json: this.listed.map((one) => this.about(one)) };
    if (place === "/v1/jobs") return { status: 202, json: { job: body.run } };
    if (place.startsWith("/v1/jobs/")) return { json: { state: "done", result: answerOf(place.slice(9)) } };
    if (id && what === "") return { json: this.about(id) };
    if (what === "waveform") return { json: { seconds: 10, peaks: [0, 1, 0, 1] } };
    if (what === "review" && method === "GET") return { json: this.reviews[id] };
    if (what !== "review") return problem(404, "There is none.");
    if (body.revision !== this.reviews[id].revision) return problem(409, "It was changed in the meantime.");
    return { json: (this.reviews[id] = { ...body, revision: body.revision + 1 }) };
  }

  async serve(route) {
    const request = route.request();
    const place = new URL(request.url()).pathname;
    if (place === "/" || place.startsWith("/static/")) {
      const name = place === "/" ? "index.html" : place.slice("/static/".length);
      const body = readFileSync(path.join(files, name), "utf8").replace("{{nonce}}", "n");
      return route.fulfill({ body, contentType: TYPES[path.extname(name)] });
    }
    const name = `${request.method()} ${place}`;
    this.asked.push(name);
    const instead = await this.answers[name]?.();
    if (instead === "broken") return route.abort();
    return route.fulfill(instead ?? this.answer(request.method(), place, request.postDataJSON()));
  }

  edits() {
    return this.asked.filter((one) => one.startsWith("PUT "));
  }
}

const problem = (status, detail) => ({ status, json: { status, detail, type: "urn:avpea:x" } });

/** Something that is kept waiting until it is let go. */
function held() {
  let free;
  const until = new Promise((resolve) => (free = resolve));
  return { wait: () => until, free };
}

let page;

async function opened(stub, id) {
  await page?.close({ runBeforeUnload: false });
  page = await browser.newPage(); // in a context of its own, so that nothing is kept
  page.setDefaultTimeout(20_000);
  await page.route("**/*", (route) => stub.serve(route).catch(() => {})); // a page that is closed asks no more
  await page.goto(ADDRESS);
  if (id) await show(id);
}

const choose = (id) => page.locator("#videos button", { hasText: `${id}.mp4` }).click();
const show = async (id) => {
  await choose(id);
  await shown(id);
};
const shown = (id) => page.waitForFunction((name) =>
  document.getElementById("name").textContent === name && !document.getElementById("events-card").inert, `${id}.mp4`);
const saved = (text) => page.waitForFunction((one) => document.getElementById("saved").textContent === one, text);
const said = (text) => page.locator(".message", { hasText: text }).first().waitFor();
const listed = () => page.locator('#events [data-part="label"]').evaluateAll((some) => some.map((one) => one.value));
const name = async (number, label) => {
  const field = page.locator('#events [data-part="label"]').nth(number);
  await field.fill(label);
  await field.press("Enter");
};
const until = async (happens) => {
  for (let tries = 0; !(await happens()); tries += 1) {
    assert.ok(tries < 400, `it does not happen: ${happens}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
/** What has begun has time to go wrong. */
const settle = () => page.waitForTimeout(150);

async function step(title, act) {
  const start = Date.now();
  try {
    await act();
    console.log(`ok ${title} (${Date.now() - start} ms)`);
  } catch (error) {
    console.log(`not ok ${title}: ${error.stack}`);
    await browser.close();
    process.exit(1);
  }
}

await step("a video that is refused: nothing is corrected, and it can be opened later", async () => {
  const stub = new Stub({ A: [event("dog"), event("cat", 3)], B: [event("owl")] });
  stub.answers["GET /v1/videos/B"] = () => problem(422, "B.mp4 lasts 2000 s.");
  await opened(stub, "A");
  await name(0, "wolf");
  await saved("Stored");
  await page.click("h1");
  await choose("B");
  await said("lasts 2000 s");
  assert.equal(await page.locator("#view").isHidden(), true);
  assert.equal(await page.locator("#welcome").isVisible(), true);
  for (const key of ["d", "a", "Delete", "Control+z"]) await page.keyboard.press(key);
  await settle();
  assert.equal(stub.edits().length, 1);
  assert.equal((await page.textContent("#videos")).includes("done"), false);
  delete stub.answers["GET /v1/videos/B"];
  await show("B");
  assert.deepEqual(await listed(), ["owl"]);
  await show("A");
  assert.deepEqual(await listed(), ["wolf", "cat"]);
});

await step("a video that is opening: nothing of the one before is there", async () => {
  const stub = new Stub({ A: [event("dog")], B: [event("owl")] });
  const slow = held();
  stub.answers["GET /v1/videos/B/waveform"] = slow.wait;
  await opened(stub, "A");
  await choose("B");
  await page.waitForFunction(() => document.getElementById("name").textContent === "B.mp4");
  assert.deepEqual(await listed(), []);
  assert.equal(await page.locator("#timeline > *").count(), 0);
  assert.equal(await page.evaluate(() => document.getElementById("events-card").inert), true);
  await page.keyboard.press("d");
  await choose("B"); // a double click
  slow.free();
  await shown("B");
  await page.keyboard.press("d");
  await saved("Stored");
  assert.deepEqual([stub.reviews.A.done, stub.reviews.B.done], [false, true]);
  assert.equal(stub.asked.filter((one) => one === "GET /v1/videos/B").length, 1);
});

await step("a waveform that fails: the video is not open", async () => {
  const stub = new Stub({ A: [event("dog")], B: [event("owl")] });
  stub.answers["GET /v1/videos/B/waveform"] = () => problem(422, "Its sound is broken.");
  await opened(stub, "A");
  await choose("B");
  await said("Its sound is broken.");
  assert.equal(await page.locator("#view").isHidden(), true);
  assert.equal(await page.locator("#timeline > *").count(), 0);
  delete stub.answers["GET /v1/videos/B/waveform"];
  await show("B");
  assert.deepEqual(await listed(), ["owl"]);
});

await step("cancelled, and opened again: the model looks", async () => {
  const stub = new Stub({ A: [] }, [runOf("one")]);
  stub.answers["GET /v1/jobs/one"] = () => ({ json: { state: "running", progress: null } });
  await opened(stub, "A");
  await page.click("#task-cancel");
  await said("Cancelled");
  delete stub.answers["GET /v1/jobs/one"];
  await choose("A");
  await until(async () => (await listed()).length);
  assert.deepEqual(await listed(), ["one-class"]);
});

await step("a conflict keeps the newest edit", async () => {
  const stub = new Stub({ A: [event("base")] });
  const slow = held();
  stub.answers["PUT /v1/videos/A/review"] = slow.wait;
  await opened(stub, "A");
  await name(0, "first");
  await name(0, "second");
  stub.reviews.A = { events: [event("theirs")], revision: 2, done: false };
  slow.free();
  await said("Somebody else has changed this video");
  assert.deepEqual(await listed(), ["theirs"]);
  await page.click("#undo");
  assert.deepEqual(await listed(), ["second"]);
  await saved("Stored");
  await page.click("#redo");
  assert.deepEqual(await listed(), ["theirs"]);
});

await step("a conflict of a video that was left names it, and is undone later", async () => {
  const stub = new Stub({ A: [event("base")], B: [event("owl")] });
  const slow = held();
  stub.answers["PUT /v1/videos/A/review"] = slow.wait;
  await opened(stub, "A");
  await name(0, "mine");
  await show("B");
  stub.reviews.A = { events: [event("theirs")], revision: 2, done: false };
  slow.free();
  await said("A.mp4: Somebody else has changed this video");
  assert.equal(await page.textContent("#saved"), "");
  assert.deepEqual(await listed(), ["owl"]);
  await show("A");
  assert.deepEqual(await listed(), ["theirs"]);
  await page.click("#undo");
  assert.deepEqual(await listed(), ["mine"]);
});

await step("what was kept while the server was away is stored after a reload", async () => {
  for (const [events, act] of [[[event("dog")], "d"], [[], "d"], [[], "nothing"]]) {
    const stub = new Stub({ A: events }, events.length ? [] : [runOf("one")]);
    await opened(stub, "A");
    if (!events.length) await until(async () => (await listed()).length === 1);
    stub.answers["PUT /v1/videos/A/review"] = () => "broken";
    if (!events.length) await page.locator('#events [data-part="remove"]').click();
    await page.click("h1");
    if (act === "d") await page.keyboard.press("d");
    await saved("Not stored");
    page.once("dialog", (dialog) => dialog.accept());
    delete stub.answers["PUT /v1/videos/A/review"];
    await page.reload();
    await shown("A");
    await until(() => stub.reviews.A.revision === (events.length ? 2 : 1));
    assert.equal(stub.reviews.A.done, act === "d");
    assert.deepEqual(labels(stub.reviews.A.events), labels(events));
  }
});

await step("what was kept, and changed by somebody else before the reload, is one step back", async () => {
  const stub = new Stub({ A: [event("base")] });
  await opened(stub, "A");
  stub.answers["PUT /v1/videos/A/review"] = () => "broken";
  await name(0, "mine");
  await saved("Not stored");
  page.once("dialog", (dialog) => dialog.accept());
  delete stub.answers["PUT /v1/videos/A/review"];
  stub.reviews.A = { events: [event("theirs")], revision: 2, done: false };
  await page.reload();
  await shown("A");
  await said("Somebody else has changed this video");
  assert.deepEqual(await listed(), ["theirs"]);
  await page.click("#undo");
  assert.deepEqual(await listed(), ["mine"]);
});

await step("one token for all that wait for it, and an edit that outlives its refusal", async () => {
  const stub = new Stub({ A: [event("dog")], B: [event("owl")] });
  await opened(stub, "A");
  let open = false;
  const asks = () => (open ? undefined : problem(401, "Show the token."));
  const guarded = ["PUT /v1/videos/A/review", "GET /v1/videos/A/review", "GET /v1/videos"];
  for (const place of guarded) stub.answers[place] = asks;
  stub.answers["POST /v1/session"] = () => ((open = true), { status: 204 });
  await name(0, "wolf");
  await page.waitForSelector("#token[open]");
  const loading = page.evaluate(() => import("/static/api.js").then(({ getJson }) => getJson("/v1/videos")));
  await until(() => stub.asked.filter((one) => one === "GET /v1/videos").length === 2);
  await page.fill("#token-value", "secret");
  await page.press("#token-value", "Enter");
  await saved("Stored");
  assert.equal((await loading).length, 2);
  assert.equal(await page.locator("#token").isHidden(), true);
  open = false;
  await name(0, "fox");
  await page.waitForSelector("#token[open]");
  await page.keyboard.press("Escape");
  await saved("Not stored");
  await said("none was given");
  await name(0, "lynx");
  await page.waitForSelector("#token[open]");
  await page.press("#token-value", "Enter");
  await saved("Stored");
  assert.deepEqual(labels(stub.reviews.A.events), ["lynx"]);
});

await step("a video of the library outside of the folder is corrected", async () => {
  const stub = new Stub({ A: [event("dog")], far: [] }, [{ ...runOf("one"), can: ["localize", "search"] }]);
  stub.listed = ["A"];
  const window = { file: "far.mp4", video: "far", start_seconds: 2, end_seconds: 3, score: 0.5, thumbnail: null };
  stub.answers["POST /v1/search"] = () => ({ json: [window] });
  await opened(stub);
  await page.fill("#sentence", "a bark");
  await page.press("#sentence", "Enter");
  await page.locator("#results button").click();
  await shown("far");
  await until(async () => (await listed()).length === 1);
  const end = page.locator('#events [data-part="end_seconds"]');
  await end.fill("4");
  await end.press("Enter");
  await saved("Stored");
  assert.equal(stub.reviews.far.events[0].end_seconds, 4);
  assert.equal(await page.locator('#videos button[aria-current="true"]', { hasText: "far.mp4" }).count(), 1);
});

await step("nobody is disturbed while they type or tab", async () => {
  const stub = new Stub({ A: [event("dog"), event("cat", 3), event("owl", 5)], B: [] });
  await opened(stub, "A");
  stub.answers["PUT /v1/videos/A/review"] = () => "broken";
  const label = page.locator('#events [data-part="label"]');
  await name(0, "wolf");
  await saved("Not stored");
  await label.nth(1).fill("half a");
  const before = stub.edits().length;
  await until(() => stub.edits().length > before + 1);
  assert.equal(await label.nth(1).inputValue(), "half a");
  assert.equal(await page.locator(".message").count(), 1);
  await page.locator("#videos button", { hasText: "B.mp4" }).focus(); // which stores the label
  delete stub.answers["PUT /v1/videos/A/review"];
  await saved("Stored");
  assert.equal(await page.evaluate(() => document.activeElement.textContent.includes("B.mp4")), true);
  const part = () => page.evaluate(() => {
    const row = document.activeElement.closest("#events > li");
    return [document.activeElement.dataset.part, row && [...row.parentElement.children].indexOf(row)];
  });
  await page.locator('#events [data-part="remove"]').nth(1).focus();
  for (const place of [1, 0]) {
    await page.keyboard.press("Enter");
    assert.deepEqual(await part(), ["remove", place]);
  }
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "events");
  await until(() => stub.reviews.A.events.length === 0);
});

await step("what is refused in the list is taken back, and the focus follows an event that moves", async () => {
  const stub = new Stub({ A: [event("dog"), event("cat", 3)] });
  await opened(stub, "A");
  const start = page.locator('#events [data-part="start_seconds"]');
  await name(0, "");
  assert.equal(await page.locator('#events [data-part="label"]').first().inputValue(), "dog");
  await start.first().fill("7");
  await start.first().press("Enter");
  await said("starts before it ends");
  assert.equal(await start.first().inputValue(), "0");
  const end = page.locator('#events [data-part="end_seconds"]');
  await end.first().fill("9");
  await end.first().press("Enter");
  await start.first().fill("5");
  await start.first().press("Enter");
  assert.deepEqual(await listed(), ["cat", "dog"]);
  assert.equal(await page.evaluate(() => document.activeElement.value), "5");
});

await step("another model that fails shows nothing of the one before", async () => {
  const stub = new Stub({ A: [] }, [runOf("one"), runOf("two")]);
  const { json } = problem(507, "Out of memory.");
  stub.answers["GET /v1/jobs/two"] = () => ({ json: { state: "failed", problem: json } });
  await opened(stub, "A");
  await until(async () => (await listed()).length === 1);
  await page.selectOption("#run", "two");
  await said("Out of memory.");
  assert.deepEqual(await listed(), []);
  assert.equal(await page.textContent("#events-source"), "");
  assert.equal(await page.locator("#rule").isHidden(), true);
});

await step("the last video that is not done is not called done", async () => {
  const stub = new Stub({ A: [event("dog")] }, [runOf("one")]);
  let left = 1;
  stub.answers["GET /v1/review/next"] = () => ({ json: { video: null, unsure: null, left, ranked: 1 } });
  await opened(stub, "A");
  await page.click("#next");
  await said("This is the last one that is not done.");
  left = 0;
  await page.click("#next");
  await said("All videos are done.");
});

await browser.close();

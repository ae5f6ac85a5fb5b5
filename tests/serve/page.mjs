// What a person does on the page, in a real browser: node page.mjs ADDRESS VIDEO HOW CHROMIUM MODULES
// HOW is "once" or "thoroughly": whether axe looks in one theme for each width, or in both.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [address, video, how, executablePath, modules] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "x.js"))("playwright-core");
const axe = readFileSync(path.join(modules, "axe-core", "axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
page.setDefaultTimeout(60_000);
const hosts = new Set();
const problems = [];
const asked = [];
page.on("request", (request) => {
  const url = new URL(request.url());
  if (!["data:", "blob:"].includes(url.protocol)) hosts.add(url.host);
  asked.push(`${request.method()} ${url.pathname}`);
});
page.on("pageerror", (error) => problems.push(error.message));
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));

async function step(name, act) {
  const start = Date.now();
  try {
    await act();
    console.log(`ok ${name} (${Date.now() - start} ms)`);
  } catch (error) {
    console.log(`not ok ${name}: ${error.stack}`);
    console.log(`problems: ${problems.join(" | ")}`);
    await browser.close();
    process.exit(1);
  }
}

const events = () => page.locator("#events .event");
const stored = async () => {
  await page.waitForFunction(() => document.getElementById("saved").textContent === "Stored");
  const id = decodeURIComponent(new URL(page.url()).hash.slice(1));
  return page.evaluate((one) => fetch(`/v1/videos/${one}/review`).then((answer) => answer.json()), id);
};
const accessible = async () => {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  assert.deepEqual(serious.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.html} ${node.failureSummary}`).slice(0, 3).join(", ")}`), []);
};

await step("upload", async () => {
  await page.goto(address);
  await page.waitForSelector("#videos button");
  await page.setInputFiles("#file", video);
  await page.waitForSelector("#rule:not([hidden])");
  assert.equal(await page.textContent("#name"), path.basename(video));
  await page.waitForFunction(() => document.getElementById("video").readyState >= 1);
});

await step("threshold without a request", async () => {
  const slide = (value) => page.locator("#threshold").fill(String(value));
  await slide(0);
  const before = asked.length;
  assert.ok((await events().count()) > 0);
  await slide(1);
  await page.waitForFunction(() => document.querySelectorAll("#events .event").length === 0);
  await slide(0);
  await page.waitForFunction(() => document.querySelectorAll("#events .event").length > 0);
  assert.deepEqual(asked.slice(before), []);
});

await step("the rule is the server's", async () => {
  const wrong = await page.evaluate(async () => {
    const { eventsAt } = await import("/static/rule.js");
    const id = decodeURIComponent(location.hash.slice(1));
    const ask = async (more) => {
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify({ run: document.getElementById("run").value, video: id, ...more });
      return (await fetch("/v1/localize", { method: "POST", headers, body })).json();
    };
    const first = await ask({});
    const found = [];
    for (const threshold of [0.01, 0.3, 0.5, 0.75, 0.95]) {
      for (const shortest of [0, 2]) {
        const theirs = (await ask({ threshold, min_seconds: shortest })).events;
        const ours = eventsAt(first, threshold, shortest);
        const plain = (some) => JSON.stringify(some.map((e) => [e.label, e.start_seconds, e.end_seconds, e.doubtful]));
        if (plain(ours) !== plain(theirs)) found.push([threshold, shortest, plain(ours), plain(theirs)]);
      }
    }
    return found;
  });
  assert.deepEqual(wrong, []);
});

await step("click an event", async () => {
  await page.locator("#timeline").locator('[part^="region "]').first().click();
  const start = await events().first().locator('[data-part="start_seconds"]').inputValue();
  await page.waitForFunction((second) => Math.abs(document.getElementById("video").currentTime - second) < 0.1, Number(start));
  await page.waitForSelector(".event.selected");
});

await step("hover shows confidence", async () => {
  await page.locator("#timeline").locator('[part^="region "]').first().hover();
  await page.waitForFunction(() => document.getElementById("tip").textContent.includes("confidence"));
  await page.mouse.move(5, 5);
});

await step("relabel, with markup that stays text", async () => {
  const label = events().first().locator('[data-part="label"]');
  await label.fill('<img src=x onerror="alert(1)">');
  await label.press("Enter");
  const review = await stored();
  assert.equal(review.events[0].label, '<img src=x onerror="alert(1)">');
  assert.equal(await page.evaluate(() => document.querySelectorAll('img[src="x"]').length), 0);
});

await step("drag, add, delete, undo", async () => {
  const before = (await stored()).events;
  const box = await page.locator("#timeline").locator('[part^="region "]').first().boundingBox();
  const whole = await page.locator("#timeline").boundingBox();
  const dragged = (fromX, toX) => page.mouse.move(fromX, box.y + 50)
    .then(() => page.mouse.down())
    .then(() => page.mouse.move((fromX + toX) / 2, box.y + 52, { steps: 4 }))
    .then(() => page.mouse.move(toX, box.y + 52, { steps: 4 }))
    .then(() => page.mouse.up());
  await page.locator("#label").fill("new one");
  const right = whole.x + whole.width - 6;
  await dragged(box.x + box.width - 2, box.x + box.width - 2 - Math.min(60, box.width / 3)); // the event's end, earlier
  await page.waitForTimeout(200);
  const shorter = (await stored()).events;
  assert.ok(shorter[0].end_seconds < before[0].end_seconds, JSON.stringify([before, shorter]));
  const free = box.x > whole.x + 90 ? [whole.x + 10, box.x - 12] : [box.x + box.width + 4, right];
  await dragged(...free);
  await page.waitForTimeout(200);
  assert.equal((await stored()).events.length, before.length + 1);
  await page.click("h1");
  await page.keyboard.press("Delete");
  await page.waitForTimeout(200);
  assert.equal((await stored()).events.length, before.length);
  await page.keyboard.press("Control+z");
  await page.waitForTimeout(200);
  assert.equal((await stored()).events.length, before.length + 1);
  await page.keyboard.press("Home");
  await page.evaluate(() => (document.getElementById("video").currentTime = 0.5));
  await page.waitForTimeout(300);
  await page.keyboard.press("a");
  await page.waitForTimeout(200);
  const added = (await stored()).events;
  assert.ok(added.some((one) => Math.abs(one.start_seconds - 0.5) < 0.15), JSON.stringify(added));
});

await step("nothing is lost on reload", async () => {
  const before = await stored();
  await page.reload();
  await page.waitForSelector("#rule:not([hidden])");
  const labels = await page.locator('#events [data-part="label"]').evaluateAll((some) => some.map((one) => one.value));
  assert.deepEqual(labels, before.events.map((one) => one.label));
  await page.click("#undo");
  await page.waitForTimeout(200);
  const fewer = (await stored()).events;
  assert.equal(fewer.length, before.events.length - 1);
  await page.reload();
  await page.waitForSelector("#rule:not([hidden])");
  await page.click("#redo");
  await page.waitForTimeout(200);
  assert.deepEqual((await stored()).events, before.events);
});

await step("an answer that is lost is no conflict", async () => {
  const label = events().first().locator('[data-part="label"]');
  let lost = 0;
  await page.route("**/review", async (route) => {
    if (route.request().method() !== "PUT" || lost) return route.continue();
    lost = 1;
    await route.fetch();
    return route.abort();
  });
  await label.fill("lost answer");
  await label.press("Enter");
  await page.waitForFunction(() => document.getElementById("saved").textContent === "Not stored");
  assert.equal((await stored()).events[0].label, "lost answer");
  assert.equal(lost, 1);
  await page.unroute("**/review");
  assert.equal(await page.locator(".message.bad", { hasText: "Somebody else" }).count(), 0);
  problems.splice(0, problems.length, ...problems.filter((text) => !/ERR_FAILED|409/.test(text)));
});

await step("done, and export", async () => {
  await page.click("#done");
  assert.equal((await stored()).done, true);
  await page.click("#export-open");
  await page.selectOption("#export-format", "audacity");
  const [file] = await Promise.all([page.waitForEvent("download"), page.click("#export-go")]);
  const text = readFileSync(await file.path(), "utf8");
  assert.equal(text.trim().split("\n").length, (await stored()).events.length);
  await page.click("#import-open");
  await page.setInputFiles("#import-file", { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("0.25\t1.5\timported\n") });
  await page.click("#import-go");
  await page.waitForFunction(() => document.querySelector('#events [data-part="label"]')?.value === "imported");
});

await step("attention", async () => {
  await page.click("#attention");
  await page.waitForSelector("#overlay:not([hidden])");
  await page.click("#attention");
});

await step("ask", async () => {
  await page.fill("#question", "Which colour sounds first?");
  await page.press("#question", "Enter");
  assert.ok(["green", "red", "yes", "no"].includes(await page.textContent("#answer .best")));
});

await step("search plays from the right second", async () => {
  if (await page.locator("#search-card").isHidden()) return;
  await page.fill("#sentence", "a green light");
  await page.press("#sentence", "Enter");
  await page.locator("#results button:not([disabled])").first().click();
  await page.waitForFunction(() => document.getElementById("video").currentTime >= 0 && !document.getElementById("video").paused);
});

await step("cancel", async () => {
  await page.locator("#videos button", { hasText: "long.mp4" }).click();
  await page.waitForSelector("#rule:not([hidden])");
  await page.waitForSelector("#task", { state: "hidden" });
  const others = await page.evaluate(async () => {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ kind: "localize", video: decodeURIComponent(location.hash.slice(1)) });
    const ask = async () => (await (await fetch("/v1/jobs", { method: "POST", headers, body })).json()).job;
    return Promise.all(Array.from({ length: 20 }, ask));
  });
  // Read on its way to the page: the browser may have let go of it when it is asked afterwards.
  let job;
  await page.route("**/v1/jobs", async (route) => {
    const answer = await route.fetch();
    job = (await answer.json()).job;
    await route.fulfill({ response: answer });
  });
  await page.evaluate(() => document.getElementById("run").dispatchEvent(new Event("change")));
  await page.waitForFunction(() => document.getElementById("task-text").textContent.includes("waiting for others"));
  await page.unroute("**/v1/jobs");
  await page.click("#task-cancel");
  await page.waitForSelector("#task", { state: "hidden" });
  const state = () => page.evaluate((id) => fetch(`/v1/jobs/${id}`).then((answer) => answer.json()), job);
  while (["queued", "running"].includes((await state()).state)) await page.waitForTimeout(100);
  assert.equal((await state()).state, "cancelled");
  await page.evaluate((some) => Promise.all(some.map((one) => fetch(`/v1/jobs/${one}`, { method: "DELETE" }))), others);
  await page.click("#next");
  await page.waitForSelector("#rule:not([hidden])");
});

await step("a connection that breaks is tried again", async () => {
  let broken = 0;
  await page.route("**/waveform*", (route) => ((broken += 1) <= 2 ? route.abort() : route.continue()));
  await page.reload();
  await page.waitForSelector("#rule:not([hidden])");
  assert.ok(broken > 2);
  assert.equal(await page.locator(".message.bad").count(), 0);
  await page.unroute("**/waveform*");
  problems.splice(0, problems.length, ...problems.filter((text) => !text.includes("ERR_FAILED")));
});

await step("lanes and masks are the server's", async () => {
  const asked = async (kind) => page.evaluate(async (what) => {
    const body = JSON.stringify({ video: decodeURIComponent(location.hash.slice(1)) });
    return (await fetch(`/v1/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body })).json();
  }, kind);
  for (const [kind, box, count] of [
    ["parse", "#lanes", (found) => found.events.length],
    ["segment", "#segments", (found) => found.seconds.filter((one) => one.objects.length).length],
  ]) {
    await page.click(`#${kind}`);
    await page.waitForSelector(`${box} > *`);
    assert.equal(await page.locator(`${box} li button`).count(), count(await asked(kind)));
  }
});

await step("labels of lanes and masks stay text", async () => {
  await page.route("**/v1/runs", async (route) => {
    const runs = await (await route.fetch()).json();
    await route.fulfill({ json: runs.map((run) => ({ ...run, title: "<b>title</b>" })) });
  });
  const object = { label: "<b>dog</b>", share: 0.25, box: [0.25, 0.25, 0.75, 0.75], confidence: 0.9 };
  const results = {
    parse: { events: [{ label: "dog", lane: "heard", start_seconds: 1, end_seconds: 2, confidence: 0.8 }] },
    segment: { seconds: [{ start_seconds: 0, objects: [object] }, { start_seconds: 1, objects: [] }] },
  };
  await page.reload();
  await page.waitForSelector("#rule:not([hidden])");
  await page.waitForSelector("#task", { state: "hidden" });
  for (const [kind, result] of Object.entries(results)) {
    await page.route("**/v1/jobs", (route) => route.fulfill({ status: 202, json: { job: kind } }));
    await page.route("**/v1/jobs/*", (route) => route.fulfill({ json: { job: kind, kind, state: "done", progress: null, result } }));
    await page.click(`#${kind}`);
    await page.waitForSelector(`#${kind}-card li button`);
    await page.unroute("**/v1/jobs");
    await page.unroute("**/v1/jobs/*");
  }
  assert.equal(await page.textContent("#lanes h4"), "Heard");
  assert.equal(await page.textContent("#segments li span:last-child"), "<b>dog</b> on 25 % of the picture");
  await page.evaluate(() => (document.getElementById("video").currentTime = 0.4));
  await page.waitForSelector("#overlay:not([hidden])");
  await page.unroute("**/v1/runs");
});

await step("no other host, and no error", async () => {
  assert.deepEqual([...hosts], [new URL(address).host]);
  assert.deepEqual(problems, []);
});

// Last, as axe itself tries inline styles, which the policy blocks.
await step("accessible in both themes, and on a phone, while one edits and while one waits", async () => {
  const fits = async () =>
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "scrolls sideways");
  const looks = (width, theme) => how === "thoroughly" || (width === 390) === (theme === "dark");
  const job = { job: "held", kind: "localize", state: "running", progress: { stage: "window", done: 1, of: 4 }, result: null };
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 800 });
    await page.reload();
    await page.waitForSelector("#rule:not([hidden])");
    await page.waitForSelector("#task", { state: "hidden" });
    if (!(await events().count())) await page.click("#add");
    for (const theme of ["light", "dark"]) {
      await page.selectOption("#theme", theme);
      await events().first().locator('[data-part="label"]').focus();
      await page.waitForSelector(".event.selected");
      await fits();
      if (looks(width, theme)) await accessible();
      for (const dialog of ["help", "import", "export"]) {
        await page.click(`#${dialog}-open`);
        await page.waitForSelector(`#${dialog}[open]`);
        await fits();
        if (looks(width, theme)) await accessible();
        await page.keyboard.press("Escape");
      }
    }
    await page.route("**/v1/jobs", (route) => route.fulfill({ status: 202, json: { job: "held" } }));
    await page.route("**/v1/jobs/*", (route) => route.fulfill({ json: job }));
    await page.evaluate(() => document.getElementById("run").dispatchEvent(new Event("change")));
    await page.waitForFunction(() => document.getElementById("task-text").textContent.includes("window 2 of 4"));
    for (const theme of ["light", "dark"]) {
      await page.selectOption("#theme", theme);
      await fits();
      if (looks(width, theme)) await accessible();
    }
    await page.click("#task-cancel"); // before the server is asked again, which knows no such job
    await page.waitForSelector("#task", { state: "hidden" });
    await page.unroute("**/v1/jobs");
    await page.unroute("**/v1/jobs/*");
  }
});

await step("a finger drags an event's end, and adds one", async () => {
  const context = await browser.newContext({ viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true });
  const phone = await context.newPage();
  phone.setDefaultTimeout(60_000);
  await phone.goto(address);
  await phone.locator("#videos button", { hasText: "red.mp4" }).click();
  await phone.waitForSelector("#rule:not([hidden])");
  await phone.waitForSelector("#task", { state: "hidden" });
  const client = await context.newCDPSession(phone);
  const drag = async (fromX, toX, y) => {
    const touch = (type, x) => client.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x, y }] });
    await touch("touchStart", fromX);
    await phone.waitForTimeout(200);
    for (let part = 1; part <= 8; part += 1) await touch("touchMove", fromX + ((toX - fromX) * part) / 8);
    await touch("touchEnd");
    await phone.waitForFunction(() => document.getElementById("saved").textContent === "Stored");
    await phone.waitForTimeout(300);
  };
  const reviewed = () => phone.evaluate(() =>
    fetch(`/v1/videos/${decodeURIComponent(location.hash.slice(1))}/review`).then((answer) => answer.json()));
  await phone.locator("#timeline").scrollIntoViewIfNeeded();
  await phone.fill("#label", "by finger");
  await phone.evaluate(() => document.activeElement.blur());
  await phone.locator("#threshold").fill("1"); // no event of the model's
  await phone.waitForFunction(() => document.querySelectorAll("#events .event").length === 0);
  const whole = await phone.locator("#timeline").boundingBox();
  await drag(whole.x + 40, whole.x + 200, whole.y + 40);
  const [added] = (await reviewed()).events;
  assert.equal(added.label, "by finger");
  await drag(whole.x + 196, whole.x + 120, whole.y + 40);
  const [shorter] = (await reviewed()).events;
  assert.ok(shorter.end_seconds < added.end_seconds - 0.2 && shorter.start_seconds === added.start_seconds, JSON.stringify([added, shorter]));
  await context.close();
});

await browser.close();

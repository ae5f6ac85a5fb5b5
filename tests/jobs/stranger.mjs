// Correct every video as the table of truth says, on the page: node stranger.mjs ADDRESS TRUTH CHROMIUM MODULES
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [address, truth, executablePath, modules] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
page.setDefaultTimeout(60_000);
page.on("requestfailed", (request) => console.log(request.method(), request.url(), request.failure().errorText));
const right = JSON.parse(readFileSync(truth, "utf8"));
const stored = async () => {
  await page.waitForTimeout(50);
  await page.waitForFunction(() => !document.getElementById("saved").textContent.startsWith("Storing"));
  const problem = page.locator("#messages .bad");
  if (await problem.count()) throw new Error(await problem.first().textContent());
};
const field = (name) => page.locator(`#events [data-part="${name}"]`).first();

async function set(name, value) {
  if ((await field(name).inputValue()) === value) return;
  await field(name).fill(value);
  await field(name).press("Enter");
  await stored();
}

await page.goto(address);
await page.waitForSelector("#videos button");
await page.click("#rank");
await page.waitForSelector("#task", { state: "hidden" });
for (let number = 0; number < Object.keys(right).length; number += 1) {
  await page.click("#next");
  await page.waitForFunction(() => document.getElementById("events-source").textContent === "as the model finds them");
  const [label, start, end] = right[await page.textContent("#name")];
  while ((await page.locator("#events .event").count()) > 1) await page.locator('#events [title="Delete"]').last().click();
  if (!(await page.locator("#events .event").count())) {
    await page.fill("#label", label);
    await page.click("#add");
    await stored();
  }
  await set("label", label);
  await set("start_seconds", "0");
  await set("end_seconds", end);
  await set("start_seconds", start);
  await page.click("#done");
  await page.waitForFunction(() => document.getElementById("done").textContent.includes("✓"));
  await stored();
}
await page.click("#save-manifest");
await page.waitForFunction(() => document.getElementById("messages").textContent.includes("is in the folder of the videos"));
await browser.close();

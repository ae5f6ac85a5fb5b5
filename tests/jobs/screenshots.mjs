// Pictures of the page: node screenshots.mjs ADDRESS FOLDER CHROMIUM MODULES
import { createRequire } from "node:module";
import path from "node:path";

const [address, folder, executablePath, modules] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

async function open(theme, width, height) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  await page.goto(address);
  await page.waitForSelector("#videos button");
  return page;
}

const shot = (page, name, more = {}) => page.screenshot({ path: path.join(folder, `${name}.png`), ...more });

async function look(page, number) {
  await page.locator("#videos button").nth(number).click();
  await page.waitForSelector("#rule:not([hidden])");
  await page.waitForFunction(() => document.getElementById("video").readyState >= 2 && document.querySelectorAll("#videos .blank").length === 0);
  if (await page.locator(".event").count()) {
    await page.locator(".event .dot").first().click();
    await page.waitForTimeout(400);
    await page.evaluate(() => document.getElementById("video").pause());
  }
  await page.waitForTimeout(1200);
  await page.mouse.move(2, 2);
}

const light = await open("light", 1280, 1010);
await light.click("#rank");
await light.waitForSelector("#task", { state: "hidden" });
await light.click("#messages button");
await look(light, 1);
await shot(light, "page-light");
const dark = await open("dark", 1280, 1090);
await look(dark, 1);
if (await dark.locator("#attention").isVisible()) {
  await dark.click("#attention");
  await dark.waitForSelector("#listened-box:not([hidden])");
  await dark.waitForTimeout(400);
}
await shot(dark, "page-dark", { fullPage: true });
for (const theme of ["light", "dark"]) {
  const phone = await open(theme, 390, 844);
  await look(phone, 1);
  await shot(phone, `phone-${theme}`, { fullPage: true });
}
await browser.close();

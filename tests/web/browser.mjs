// A browser, and a page in it that remembers what should not have happened: errors, and questions to anybody but the node.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** The folder in which `npm ci` ran. */
const TOOLS = process.env.EVENKEEL_WEB_TOOLS ?? new URL('../../web', import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const { chromium } = createRequire(join(TOOLS, 'package.json'))('playwright-core');

export async function browser() {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

/**
 * A page on `url`. `settle()` fails when something happened that should not have. `excused` are console errors that a test
 * brings about on purpose, such as an answer that does not come.
 */
export async function open(of, url, { excused, ...options } = {}) {
  const page = await of.newPage({ viewport: { width: 1440, height: 900 }, locale: 'en-GB', colorScheme: 'light', ...options });
  page.setDefaultTimeout(15_000);
  const origin = new URL(url).origin;
  const wrong = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !(excused && excused.test(message.text()))) wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong.push(`page: ${error.stack ?? error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith('data:')) wrong.push(`asked ${request.url()}`);
  });
  await page.goto(url);
  return {
    page,
    go: async (...parts) => {
      await page.evaluate((hash) => { location.hash = hash; }, `#/${parts.map(encodeURIComponent).join('/')}`);
    },
    settle: async () => {
      await page.close();
      assert.deepEqual(wrong, []);
    },
  };
}

/** Asks the page to say the text somewhere, and fails with what it says instead. */
export async function says(page, where, text) {
  const found = page.locator(where).filter({ hasText: text }).first();
  try {
    await found.waitFor({ state: 'visible' });
  } catch {
    assert.fail(`${where} does not say ${text}; the page says:\n${await page.locator('body').innerText()}`);
  }
  return found;
}

/** No view may be wider than the screen it is on. */
export async function fits(page, what) {
  const { wide, widest } = await page.evaluate(() => {
    const limit = document.documentElement.clientWidth;
    // What scrolls within itself may be wider.
    const inside = (element) => element.closest('.scroll, nav, .clip, svg, .holder') !== null;
    const out = [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > limit + 1 && !inside(element));
    return { wide: document.documentElement.scrollWidth - limit, widest: out.slice(0, 3).map((element) => element.outerHTML.slice(0, 160)) };
  });
  assert.ok(wide <= 0, `${what} is ${wide} pixels too wide: ${widest.join('\n')}`);
}

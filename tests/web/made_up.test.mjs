// What a real node cannot be brought to within a test: a thousand backends, a suspicion, a token.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { browser, fits, open, says } from './browser.mjs';
import { start } from './mock.mjs';

let chromium;

before(async () => {
  chromium = await browser();
});

/** Its server ends with the test, however that ends. */
async function begin(t, world) {
  const mock = await start(world);
  t.after(() => mock.close());
  return mock;
}

after(async () => {
  await chromium?.close();
});

test('a thousand backends are a few rows, however far one scrolls, and the one that is sought is found', async (t) => {
  const mock = await begin(t, { many: 1000 });
  const { page, go, settle } = await open(chromium, mock.url);
  await says(page, 'main li', '11 of 1000 backends of pool fleet are unhealthy');
  await go('pools', 'fleet');
  await says(page, 'main', '10.1.0.1:8080');
  const rows = () => page.locator('[role=row]').count();
  assert.ok((await rows()) < 80, `${await rows()} rows exist`);
  await page.evaluate(() => scrollTo(0, 20_000));
  await page.getByText('10.1.2.', { exact: false }).first().waitFor();
  assert.ok((await rows()) < 80, `${await rows()} rows exist`);
  await page.locator('input[type=search]').fill('10.1.3.250');
  await says(page, '[role=row]', '10.1.3.250:8080');
  assert.equal(await page.locator('[data-address]').count(), 1);
  // The page must not be at work all the time: in a second of looking on, most of it is spent waiting.
  const busy = await page.evaluate(async () => {
    let longest = 0;
    const end = performance.now() + 2000;
    while (performance.now() < end) {
      const before = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 5));
      longest = Math.max(longest, performance.now() - before);
    }
    return longest;
  });
  assert.ok(busy < 1000, `the page did not answer for ${busy} ms`);
  await settle();
});

test('a node that suspects itself says so before all else', async (t) => {
  const mock = await begin(t, { suspects: true });
  const { page, settle } = await open(chromium, mock.url, { viewport: { width: 360, height: 740 } });
  const first = page.locator('main li').first();
  await first.getByRole('link', { name: 'This node suspects itself' }).waitFor();
  assert.match(await first.innerText(), /9 of 11 targets turned to failing/);
  await says(page, 'main li', 'Verdicts are held');
  await fits(page, 'a suspicion at 360');
  await settle();
});

test('a token is asked for, refused when wrong, kept for this tab when right, and never part of an address', async (t) => {
  const mock = await begin(t, { token: 'open-sesame' });
  const { page, settle } = await open(chromium, mock.url, { excused: /401/ });
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  await page.getByLabel('Token').fill('wrong');
  await page.getByRole('button', { name: 'Use it' }).click();
  await says(page, '[role=alert]', 'refused the token');
  await page.getByLabel('Token').fill('open-sesame');
  await page.getByRole('button', { name: 'Use it' }).click();
  await says(page, 'main li', 'is unhealthy');
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
  assert.deepEqual(asked.filter((url) => url.includes('sesame')), []);
  await page.reload();
  await says(page, 'main li', 'is unhealthy');
  await settle();
});

test('an order is confirmed with what it will do; what the node refuses is said with its reasons', async (t) => {
  const mock = await begin(t, {});
  const { page, go, settle } = await open(chromium, mock.url, { excused: /409/ });
  await go('pools', 'api', '10.0.4.1:9000');
  await page.getByRole('button', { name: 'Maintain' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('About 50 % of the pool\'s work moves to the other 1 backend.').waitFor();
  await dialog.getByLabel('Keep it over a restart').check();
  await dialog.getByRole('button', { name: 'Maintain' }).click();
  await says(page, 'dialog [role=alert]', 'node.state_file is not set');
  await dialog.getByLabel('Keep it over a restart').uncheck();
  await dialog.getByRole('button', { name: 'Maintain' }).click();
  await says(page, '.notice', 'api/10.0.4.1:9000: order maintenance given');
  await says(page, 'main', 'maintenance');
  await settle();
});

test('a failed request is shown with its phases as bars, and live ones as they end until they are paused', async (t) => {
  const mock = await begin(t, {});
  const { page, go, settle } = await open(chromium, mock.url);
  await go('requests');
  await page.getByRole('link', { name: '/report.php', exact: false }).click();
  const steps = page.locator('.steps li');
  assert.equal(await steps.count(), 6);
  const widths = await steps.locator('.bar i').evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width));
  assert.ok(widths[5] > 20 * widths[3], `the wait for the answer is not the longest bar: ${widths}`);
  await says(page, 'main', 'pool.response_timeout');
  await go('requests', 'live');
  await says(page, 'main', '/item/3');
  await page.getByRole('button', { name: 'Pause' }).click();
  await says(page, 'main', 'Paused.');
  const before = await page.locator('main li').count();
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 600)));
  assert.equal(await page.locator('main li').count(), before);
  await settle();
});

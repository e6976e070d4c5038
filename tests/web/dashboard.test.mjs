// The dashboard as an operator uses it: a real browser, the real binary, real servers that are killed.
//
// tests/e2e/dashboard.rs starts this. By hand, after `npm ci` in web/: EVENKEEL=path/to/binary node --test tests/web/

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { browser, fits, open, says } from './browser.mjs';
import { backend, start } from './node.mjs';

const VIEWS = ['now', 'pools', 'timeline', 'failures', 'requests', 'rules', 'config'];

let chromium;
let node;
let servers;

const config = (listen) => `
[[listener]]
name = "web"
listen = "${listen}"
protocol = "http"
pool = "shop"

[[listener.rule]]
name = "api"
path = "/api"
pool = "api"

[[listener.rule]]
name = "moved"
path = "/old"
redirect = { to = "https://www.example.com{path}", status = 301 }

[[pool]]
name = "shop"
response_timeout = "300ms"
backends = [${servers.slice(0, 3).map((one) => `{ address = "${one.address}" }`).join(', ')}]

[[pool.check]]
name = "page"
kind = "http"
path = "/"
interval = "100ms"
timeout = "1s"
unhealthy_threshold = 3
healthy_threshold = 2

[[pool]]
name = "api"
backends = [{ address = "${servers[3].address}" }]
`;

before(async () => {
  servers = await Promise.all(['one', 'two', 'three', 'four'].map(backend));
  [chromium, node] = await Promise.all([browser(), start(config)]);
});

after(async () => {
  await chromium?.close();
  await node?.end();
  await Promise.all((servers ?? []).map((server) => server.kill()));
});

test('a node where all is well says so, and counts what takes work', async () => {
  const { page, settle } = await open(chromium, node.url);
  await says(page, 'main', 'Nothing is wrong.');
  await says(page, 'main', '4 of 4 backends take work');
  await says(page, 'header', 'All well');
  await settle();
});

test('a killed backend becomes unhealthy before the eyes, with evidence and the probes behind it, and comes back', async () => {
  const { page, go, settle } = await open(chromium, node.url);
  const dead = servers[0];
  await says(page, 'main', 'Nothing is wrong.');
  await dead.kill();
  const line = await says(page, 'main li', `Backend shop/${dead.address} is unhealthy`);
  assert.match(await line.innerText(), /page: .*refused/s);
  await says(page, 'header', '1 broken');

  await go('pools');
  const row = page.locator('[role=row]', { hasText: dead.address });
  assert.match(await row.innerText(), /unhealthy/);
  assert.match(await row.innerText(), /refused/);
  await go('timeline');
  const event = await says(page, 'li[data-event="backend.unhealthy"]', dead.address);
  await event.getByRole('button', { name: /probes? behind it/ }).click();
  await says(page, '.findings li', 'refused');

  await dead.revive();
  await go('now');
  await says(page, 'main', 'Nothing is wrong.');
  await settle();
});

test('failures are told by cause, and a cause opens its explanation', async () => {
  assert.equal(await node.get('/never'), 504);
  const { page, go, settle } = await open(chromium, node.url);
  await go('failures');
  await page.getByRole('link', { name: 'Backend did not answer in time' }).click();
  const explanation = page.locator('[data-explains="backend_response_timeout"]');
  await explanation.getByText('What to do:').waitFor();
  assert.match(await explanation.innerText(), /response_timeout/);
  await settle();
});

test('a failed request is found again, with each of its phases and the timer that ended it', async () => {
  assert.equal(await node.get('/never?story'), 504);
  const { page, go, settle } = await open(chromium, node.url);
  await go('requests');
  await page.getByRole('link', { name: '/never?story' }).first().click();
  await says(page, '.steps li', 'wait for answer');
  await says(page, 'main', 'pool.response_timeout');
  const where = await page.locator('main').innerText();
  assert.match(where, /evenkeel\.toml:\d+/, 'the line of the config is not told');
  await settle();
});

test('requests are seen as they end', async () => {
  const { page, go, settle } = await open(chromium, node.url);
  await go('requests', 'live');
  await says(page, '[role=status]', 'As they end.');
  assert.equal(await node.get('/seen-live'), 200);
  await says(page, 'main li', '/seen-live');
  await settle();
});

test('a backend is drained after a question that says what will happen, and serves again after another', async () => {
  const { page, go, settle } = await open(chromium, node.url);
  const { address } = servers[2];
  const name = `shop/${address}`;
  const order = async () => (await node.status()).pools[0].backends.find((one) => one.address === address).order;
  await go('pools', 'shop', address);
  await page.getByRole('button', { name: 'Drain' }).click();
  const dialog = page.getByRole('dialog', { name: `Drain ${name}?` });
  await dialog.getByText("About 33 % of the pool's work moves to the other 2 backends.").waitFor();
  assert.equal(await order(), 'serve', 'the order was given before it was confirmed');
  await dialog.getByLabel('For').selectOption('10m');
  await dialog.getByRole('button', { name: 'Drain' }).click();
  await says(page, '.notice', `${name}: order drain given`);
  await says(page, 'main', 'drain, healthy');
  assert.equal(await order(), 'drain');
  await go('now');
  const line = await says(page, 'main li', `Backend ${name} is drained`);
  assert.match(await line.innerText(), /(10 min|9 min \d+ s) left/);
  await line.getByRole('button', { name: 'Serve' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Serve' }).click();
  await page.locator('main li', { hasText: name }).filter({ hasText: 'drained' }).waitFor({ state: 'detached' });
  assert.equal(await order(), 'serve');
  await settle();
});

test('the last backend of a pool is not drained without a warning in so many words', async () => {
  const { page, go, settle } = await open(chromium, node.url);
  await go('pools', 'api', servers[3].address);
  await page.getByRole('button', { name: 'Maintain' }).click();
  await page.getByRole('dialog').getByText('pool api then refuses all new work').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await settle();
});

test('a file that differs from what runs is told with the difference, and a reload takes it', async () => {
  const { page, go, settle } = await open(chromium, node.url);
  await go('config');
  await says(page, 'main', 'What runs is what the file says');
  await node.write((listen) => config(listen).replace('response_timeout = "300ms"', 'response_timeout = "400ms"'));
  await go('now');
  await says(page, 'main li', 'The config file differs from what runs');
  await go('config');
  await says(page, 'main', 'The file differs from what runs');
  await says(page, 'main', 'response_timeout');
  await page.getByRole('button', { name: 'Reload' }).click();
  await page.getByRole('dialog', { name: 'Reload the config?' }).getByRole('button', { name: 'Reload' }).click();
  await says(page, '.notice', 'Reloaded');
  await says(page, 'main', 'What runs is what the file says');
  await settle();
});

test('a route is tested with its rule and its backend', async () => {
  const { page, go, settle } = await open(chromium, node.url);
  await go('rules');
  await says(page, '.rules tr', 'redirect 301 to https://www.example.com{path}');
  await page.locator('input[inputmode=url]').fill(`http://${node.listen}/api/x`);
  await page.getByRole('button', { name: 'Test', exact: true }).click();
  const told = page.locator('[data-routed]');
  await told.getByText(servers[3].address).waitFor();
  assert.match(await told.innerText(), /Rule\s+api/);
  await page.locator('input[inputmode=url]').fill(`http://${node.listen}/old`);
  await page.keyboard.press('Enter');
  await told.getByText('301 → https://www.example.com/old').waitFor();
  await settle();
});

test('language and theme are switched, and stay as they were chosen', async () => {
  const { page, settle } = await open(chromium, node.url);
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await says(page, 'nav', 'Pools');
  const light = await background();
  await page.getByRole('button', { name: '中文' }).click();
  await says(page, 'nav', '后端池');
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');
  await page.getByRole('button', { name: '深色主题' }).click();
  const dark = await background();
  assert.notEqual(dark, light);
  await page.reload();
  await says(page, 'nav', '后端池');
  assert.equal(await background(), dark);
  await settle();
});

test('no view is wider than its screen, at three sizes and in both languages', async () => {
  for (const width of [1440, 820, 360]) {
    const { page, go, settle } = await open(chromium, node.url, { viewport: { width, height: 800 } });
    await says(page, 'main', 'backends take work');
    for (const language of ['en', 'zh']) {
      for (const view of VIEWS) {
        await go(view);
        await page.locator('nav [aria-current=page]').waitFor();
        await fits(page, `${view} at ${width} (${language})`);
      }
      await go('pools', 'shop', servers[1].address);
      await page.locator('h1', { hasText: servers[1].address }).waitFor();
      await fits(page, `a backend at ${width} (${language})`);
      await page.keyboard.press('l');
    }
    await settle();
  }
});

test('all of it can be reached with keys alone', async () => {
  const { page, settle } = await open(chromium, node.url);
  await says(page, 'main', 'backends take work');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'main');
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.keyboard.press('2');
  await says(page, 'main', '4 of 4 take work'.replace('4 of 4', '3 of 3'));
  await page.keyboard.press('/');
  await page.keyboard.type(servers[1].address);
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), servers[1].address);
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.notEqual(outline, 'none', 'what has the focus is not marked');
  await page.keyboard.press('Enter');
  await page.locator('h1', { hasText: servers[1].address }).waitFor();
  await page.keyboard.press('d');
  await page.getByRole('dialog', { name: `Drain shop/${servers[1].address}?` }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal((await node.status()).pools[0].backends[1].order, 'serve', 'Escape gave the order');
  await settle();
});

test('a node that goes away is told at once, its last picture stays, and it is found again', async () => {
  const { page, settle } = await open(chromium, node.url, { excused: /ERR_CONNECTION|ERR_EMPTY|ERR_INCOMPLETE/ });
  await says(page, 'main', 'Nothing is wrong.');
  await node.stop();
  await says(page, '[role=alert]', 'The node has not answered for');
  await says(page, 'main.old', 'Nothing is wrong.');
  await node.run();
  await page.getByRole('button', { name: 'Try now' }).click();
  await page.locator('.away').waitFor({ state: 'detached' });
  await settle();
});

// A node that is not there: the page's files, and answers as the admin API gives them, made up.
//
// For what a real node cannot be brought to within a test: a thousand backends, a suspicion, a token, an answer that does not come.
// What the real binary says is tested against the real binary.
//
//   node tests/web/mock.mjs PORT [many]        to look at the page while working on it

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = join(dirname(fileURLToPath(import.meta.url)), '../../web/dist');
const KINDS = { '/': 'text/html', '/app.js': 'text/javascript', '/app.css': 'text/css', '/icon.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

// One moment for all answers, or the same event would come with another time each time.
const BORN = Date.now();
const ago = (ms) => new Date(Date.now() - ms).toISOString();
const once = (ms) => new Date(BORN - ms).toISOString();
const MINUTE = 60_000;

function finding(ms, result, text, more = {}) {
  return { kind: 'http', started: ago(ms), duration_ms: 1.4, result, text, ...more };
}

const PASSED = 'http passed after 1.4ms: status 200';
const REFUSED = 'http failed in connect after 0.2ms: refused';
const LATE = 'http failed in first byte after 1000ms: timed out';

function check(verdict, since, more = {}) {
  const failing = verdict === 'unhealthy';
  return {
    name: 'http', kind: 'http', address: '', verdict, since: ago(since), agent: null, rests_on_silence: false, silence: null,
    progress: null, passed_total: 4210, failed_total: failing ? 61 : 2, void_total: 0, kept_total: 0,
    probing: { state: 'waiting', next_in_ms: 200 + ((Date.now() / 7) % 1800) },
    recent: Array.from({ length: 8 }, (_, at) => (failing ? finding(at * 2000 + 800, 'failed', REFUSED, { phase: 'connect', reason: 'refused' }) : finding(at * 2000 + 800, 'passed', PASSED))),
    ...more,
  };
}

function backend(address, more = {}, of = check('healthy', 47 * MINUTE)) {
  const made = {
    address, weight: 10, server_id: null, effective_weight: 10, verdict: of.verdict, since: of.since, order: 'serve', order_until: null, order_kept: false,
    agent: null, ejected_until: null, ramp_percent: 100, in_flight: 3, attempts_total: 18234, checks: [{ ...of, address }], ...more,
  };
  if (made.verdict === 'unhealthy' || made.order !== 'serve' || made.ejected_until) made.effective_weight = 0;
  return made;
}

function pool(name, backends, more = {}) {
  const eligible = backends.filter((one) => one.effective_weight > 0).length;
  return { name, schedule: 'wrr', sticky: null, eligible, refusal: eligible === 0 ? 'all_backends_unhealthy' : null, panic: false, backends, ...more };
}

/** What the node says of itself, anew for each question. */
function status(world) {
  const orders = world.orders;
  const with_orders = (name, list) => list.map((one) => ({ ...one, ...(orders[`${name}/${one.address}`] ?? {}) })).map((one) => (one.order !== 'serve' ? { ...one, effective_weight: 0 } : one));
  const pools = [
    pool('web', with_orders('web', [
      backend('10.0.3.7:8080', {}, check('unhealthy', 3.4 * MINUTE, { progress: null })),
      backend('10.0.3.8:8080', { in_flight: 14 }, check('healthy', 47 * MINUTE, { progress: { toward: 'unhealthy', results: 2, needed: 3 }, recent: [finding(600, 'failed', LATE, { phase: 'first_byte', reason: 'timed_out' }), finding(3600, 'failed', LATE), finding(6800, 'passed', PASSED)] })),
      backend('10.0.3.9:8080', { in_flight: 9 }),
      backend('10.0.3.10:8080', { order: 'drain', order_until: new Date(Date.now() + 24 * MINUTE).toISOString(), in_flight: 2 }),
      backend('10.0.3.11:8080', { ramp_percent: 40, effective_weight: 4 }, check('healthy', 21_000)),
    ]), { sticky: 'insert' }),
    pool('api', with_orders('api', [backend('10.0.4.1:9000'), backend('10.0.4.2:9000', { ejected_until: new Date(Date.now() + 18_000).toISOString() }), backend('[2001:db8::4:3]:9000')]), { schedule: 'p2c' }),
    pool('mail', [backend('10.0.5.1:25', {}, check('unhealthy', 95 * MINUTE, { kind: 'tcp', name: 'smtp' })), backend('10.0.5.2:25', {}, check('unhealthy', 94 * MINUTE, { kind: 'tcp', name: 'smtp' }))]),
    pool('static', [backend('10.0.6.1:80', { checks: [], verdict: 'unknown' })]),
  ];
  if (world.many) {
    const thousand = Array.from({ length: world.many }, (_, at) => backend(`10.1.${Math.floor(at / 250)}.${1 + (at % 250)}:8080`, {}, at % 97 === 5 ? check('unhealthy', 9 * MINUTE) : check('healthy', 80 * MINUTE)));
    pools.push(pool('fleet', with_orders('fleet', thousand)));
  }
  return {
    version: '0.1.0', time: new Date().toISOString(), started: ago(5.2 * 60 * MINUTE), generation: 12 + world.moves,
    suspects_itself_since: world.suspects ? ago(40_000) : null, holds_verdicts: Boolean(world.suspects),
    probing: { targets: 11 + (world.many ?? 0), in_flight: 1, lateness: { probes: 99021, p50_ms: 0.1, p99_ms: 1.3, longest_ms: 22 } },
    listeners: [
      { name: 'web', protocol: 'https', listen: ['0.0.0.0:443', '[::]:443'], pool: 'web', connections: 211, connections_total: 90211, requests_total: 1_820_441 },
      { name: 'smtp', protocol: 'tcp', listen: ['0.0.0.0:25'], pool: 'mail', connections: 0, connections_total: 2211, requests_total: 0 },
    ],
    pools, events: events(world),
    config: { file: '/etc/evenkeel/evenkeel.toml', hash: '5d0c2f9a41e8', file_hash: '91be77aa03c1', same: false, changes: 1 },
    node: { name: 'eu1-a', pid: 812 },
  };
}

function events(world) {
  const behind = [finding(3.4 * MINUTE, 'failed', REFUSED), finding(3.45 * MINUTE, 'failed', REFUSED), finding(3.5 * MINUTE, 'failed', REFUSED)];
  const all = [
    { time: once(3.4 * MINUTE), event: 'backend.unhealthy', level: 'warn', pool: 'web', backend: '10.0.3.7:8080', check: 'http', from: 'healthy', to: 'unhealthy', text: `backend 10.0.3.7:8080 of pool "web" is unhealthy: 3 probes in a row failed, last: connect refused after 0.2ms`, findings: behind },
    { time: once(6 * MINUTE), event: 'backend.ordered', level: 'info', pool: 'web', backend: '10.0.3.10:8080', from: 'serve', to: 'drain', by: 'ops', text: 'backend 10.0.3.10:8080 of pool "web": order drain, was serve' },
    { time: once(12_000), event: 'backend.ejected', level: 'warn', pool: 'api', backend: '10.0.4.2:9000', text: 'backend 10.0.4.2:9000 of pool "api" ejected for 30s: it answered 5xx (5 times in a row)' },
    { time: once(21_000), event: 'backend.healthy', level: 'info', pool: 'web', backend: '10.0.3.11:8080', check: 'http', from: 'unhealthy', to: 'healthy', text: 'backend 10.0.3.11:8080 of pool "web" is healthy: 3 probes in a row passed', findings: [finding(21_000, 'passed', PASSED), finding(23_000, 'passed', PASSED)] },
    { time: once(17 * MINUTE), event: 'backend.unhealthy', level: 'warn', pool: 'web', backend: '10.0.3.11:8080', check: 'http', from: 'healthy', to: 'unhealthy', text: 'backend 10.0.3.11:8080 of pool "web" is unhealthy: 3 probes in a row failed, last: status 500', findings: behind },
    { time: once(40 * MINUTE), event: 'plan.changed', level: 'info', text: 'plan changed: listeners 2, pools 4, backends 11 (1 added, 0 removed), checks 11 (1 added, 0 removed)' },
  ];
  if (world.suspects) all.push({ time: once(40_000), event: 'node.suspects_itself', level: 'error', text: 'this node suspects itself: 9 of 11 targets turned to failing within 2s' });
  return all.sort((a, b) => (a.time < b.time ? 1 : -1)).map((event, at, list) => ({ seq: list.length - at, ...event }));
}

function wave(at, base, swing) {
  return Math.max(0, Math.round(base + swing * Math.sin(at / 9) + swing * 0.3 * Math.sin(at * 1.7)));
}

function history() {
  const samples = Array.from({ length: 180 }, (_, at) => {
    const back = (list) => Object.fromEntries(list.map(([name, base, failed], place) => [name, { attempts: wave(at + place * 7, base, base / 4), failed: failed && at > 120 ? wave(at, 4, 4) : 0, in_flight: 4, p50_ms: 3.1 + Math.sin(at / 5), p99_ms: 22 + 9 * Math.sin(at / 11) + (failed && at > 120 ? 60 : 0) }]));
    return {
      time: ago((180 - at) * 5000),
      listeners: { web: { requests: wave(at, 1900, 400), failed: at > 140 ? wave(at, 12, 9) : 0, connections: 211, bytes_in: 1e6, bytes_out: 9e6, p50_ms: 3.3, p99_ms: 27 + 9 * Math.sin(at / 11) }, smtp: { requests: 0, failed: 0, connections: 0, bytes_in: 0, bytes_out: 0, p50_ms: null, p99_ms: null } },
      backends: back([['web/10.0.3.7:8080', 300, true], ['web/10.0.3.8:8080', 500, true], ['web/10.0.3.9:8080', 520], ['web/10.0.3.11:8080', 200], ['api/10.0.4.1:9000', 250], ['api/10.0.4.2:9000', 120, true], ['api/[2001:db8::4:3]:9000', 260]]),
    };
  });
  return { step_ms: 5000, samples };
}

const CAUSES = {
  since: ago(5.2 * 60 * MINUTE),
  causes: [
    { code: 'backend_response_timeout', blame: 'backend', phase: 'response_head', total: 212, last_minute: 41, last_15_minutes: 60, last_hour: 88, by: [{ listener: 'web', pool: 'web', backend: '10.0.3.8:8080', total: 190 }, { listener: 'web', pool: 'api', backend: '10.0.4.2:9000', total: 22 }], last: { time: ago(1500), request: '0a1b2c3d4e5f60718293a4b5c6d7e8f9' } },
    { code: 'all_backends_unhealthy', blame: 'backend', phase: 'pick', total: 912, last_minute: 6, last_15_minutes: 101, last_hour: 400, by: [{ listener: 'smtp', pool: 'mail', total: 912 }], last: { time: ago(9000) } },
    { code: 'backend_connect_refused', blame: 'backend', phase: 'connect', total: 31, last_minute: 0, last_15_minutes: 31, last_hour: 31, by: [], last: { time: ago(3 * MINUTE) } },
    { code: 'client_aborted', blame: 'client', phase: 'response_head', total: 4400, last_minute: 14, last_15_minutes: 220, last_hour: 900, by: [], last: { time: ago(700) } },
    { code: 'rule_not_found', blame: 'operator', phase: 'rule', total: 3, last_minute: 0, last_15_minutes: 1, last_hour: 3, by: [], last: { time: ago(8 * MINUTE) } },
  ],
  by_blame: {},
};

const EXPLAINED = {
  code: 'backend_response_timeout', blame: 'backend', phase: 'response_head', status: 504, proxy_status_error: 'http_response_timeout', client_gets: '504 with Proxy-Status: evenkeel; error=http_response_timeout',
  meaning: 'The backend took the request and did not begin its answer within `response_timeout`.',
  evidence: [{ field: 'backend', meaning: 'address of the backend' }, { field: 'timeout', meaning: 'the timer that fired' }, { field: 'reused', meaning: 'whether the connection had carried a request before' }],
  advice: 'Look at what the backend waits for: a full worker pool (php-fpm max_children), a slow query, a lock. Raise response_timeout only if such answers are meant to take so long.',
};

const REQUEST = {
  time: ago(1500), id: '0a1b2c3d4e5f60718293a4b5c6d7e8f9', listener: 'web', client: '192.0.2.44:50122', method: 'GET', host: 'www.example.com', target: '/report.php?year=2026', version: 'HTTP/2.0', status: 504, bytes_in: 410, bytes_out: 220, duration_ms: 60_001.4,
  pool: 'web', backend: '10.0.3.8:8080', reused: true, idle_ms: 1500, cause: 'backend_response_timeout', blame: 'backend', phase: 'response_head',
  attempts: [{ backend: '10.0.3.7:8080', ms: 0.3, cause: 'backend_connect_refused' }, { backend: '10.0.3.8:8080', ms: 60_000, cause: 'backend_response_timeout' }],
  timeline: [
    { phase: 'head', at_ms: 0, took_ms: 0.1, what: 'request head read' }, { phase: 'rule', at_ms: 0.1, took_ms: 0.01, what: 'rule "php" took it' }, { phase: 'pick', at_ms: 0.1, took_ms: 0.02, what: '10.0.3.7:8080, then 10.0.3.8:8080' },
    { phase: 'connect', at_ms: 0.2, took_ms: 0.3, what: 'refused by 10.0.3.7:8080', evidence: 'errno 111', cause: 'backend_connect_refused' }, { phase: 'request', at_ms: 0.6, took_ms: 0.2, what: 'sent on a kept connection, idle for 1.5 s' }, { phase: 'first_byte', at_ms: 0.8, took_ms: 60_000.6, what: 'no byte of an answer', evidence: 'timeout 60s', cause: 'backend_response_timeout' },
  ],
  backend_then: { verdict: 'healthy', since: ago(47 * MINUTE), for_ms: 47 * MINUTE, order: 'serve', in_flight: 14 }, timer: { key: 'pool.response_timeout', value: '60s', config: { file: '/etc/evenkeel/evenkeel.toml', line: 41 } },
  explanation: ['10.0.3.8:8080 took the request and sent nothing for 60 s.', '14 other requests were in flight there; its probe of / passed at the time, so the check does not see what this request needs.'],
};

const CONFIG = {
  file: '/etc/evenkeel/evenkeel.toml', hash: '5d0c2f9a41e8', file_hash: '91be77aa03c1', same: false,
  text: '[[listener]]\nname = "web"\nlisten = "0.0.0.0:443"\nprotocol = "https"\npool = "web"\n\n[[pool]]\nname = "web"\nbackends = [{ address = "10.0.3.7:8080" }]\n',
  changes: [{ pool: 'web', backend: '10.0.3.10:8080', what: 'order', value: 'drain', by: 'ops', since: ago(6 * MINUTE), until: new Date(Date.now() + 24 * MINUTE).toISOString(), kept: false }],
};

const DIFF = { same: false, listeners: { added: [], removed: [], changed: [] }, pools: { added: [], removed: [], changed: [{ name: 'web', what: ['schedule is "wlc" instead of "wrr"'] }] }, backends: { added: ['web/10.0.3.12:8080'], removed: [], changed: [] }, text: '' };

const RULES = [
  { name: 'api', when: 'host api.example.com; path /v1', does: 'api, path as /', pool: 'api' },
  { name: 'files', when: 'path /static', does: 'static', pool: 'static' },
  { name: 'old', when: 'host old.example.com', does: 'redirect 301 to https://www.example.com{path}', pool: null },
];

const ROUTE = {
  listener: 'web', protocol: 'https', rule: 'shop', action: 'pool', refused: null, redirect: null, answer: null,
  pool: { name: 'web', schedule: 'wrr', by_default: null, path: '/', backend: null, because: 'by weight', candidates: [{ address: '10.0.3.8:8080', percent: 50 }, { address: '10.0.3.9:8080', percent: 50 }], aside: [{ address: '10.0.3.7:8080', why: 'unhealthy' }] },
  rules: [{ name: 'shop', place: 'taken', reason: 'taken', sentence: '' }, { name: 'api', place: 'out', reason: 'path', sentence: 'its path is /api' }],
};

/** Starts it. `world` may be changed while it runs. */
export async function start(world, port = 0) {
  Object.assign(world, { orders: {}, moves: 0, asked: 0, ...world });
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://mock');
    const json = (value, code = 200) => {
      response.writeHead(code, { 'Content-Type': code >= 400 ? 'application/problem+json' : 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (KINDS[pathname]) {
      response.writeHead(200, { 'Content-Type': `${KINDS[pathname]}; charset=utf-8`, 'Content-Security-Policy': POLICY });
      response.end(await readFile(join(DIST, pathname === '/' ? 'index.html' : pathname)));
      return;
    }
    if (world.away) return void request.socket.destroy();
    if (world.token && request.headers.authorization !== `Bearer ${world.token}`) return json({ title: 'Unauthorized', status: 401, detail: 'a token is needed' }, 401);
    const at = pathname.replace('/api/v1', '');
    const order = /^\/pools\/([^/]+)\/backends\/([^/]+)\/(order|weight|probe)$/.exec(at);
    if (request.method === 'POST') {
      let body = '';
      for await (const piece of request) body += piece;
      const said = body ? JSON.parse(body) : {};
      if (order?.[3] === 'order' && said.keep) return json({ title: 'Nowhere to keep it', status: 409, detail: 'node.state_file is not set', errors: ['set node.state_file, or give the order without keep'] }, 409);
      if (order?.[3] === 'order') world.orders[`${order[1]}/${decodeURIComponent(order[2])}`] = { order: said.order };
      world.moves += 1;
      return at === '/route' ? json(ROUTE) : json(null, 202);
    }
    world.asked += 1;
    switch (true) {
      case at === '/status': return json(status(world));
      case at === '/history': return json(history());
      case at === '/causes': return json(CAUSES);
      case at.startsWith('/causes/'): return json({ ...EXPLAINED, code: at.slice(8) });
      case at === '/events': return json({ events: events(world) });
      case at === '/listeners': return json({ listeners: status(world).listeners.map((one) => ({ ...one, rules: one.name === 'web' ? RULES : [] })) });
      case at === '/config': return json(CONFIG);
      case at === '/config/diff': return json(DIFF);
      case at === '/requests': return json({ kept: 2, requests: [REQUEST, { ...REQUEST, id: 'ffeeddccbbaa99887766554433221100', target: '/slow', status: 200, cause: undefined, blame: undefined, duration_ms: 2210 }] });
      case at === '/events/stream' || at === '/requests/stream': {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.write(': hello\n\n');
        if (at === '/events/stream') return;
        let id = 0;
        const timer = setInterval(() => response.write(`id: ${++id}\ndata: ${JSON.stringify({ ...REQUEST, time: new Date().toISOString(), target: `/item/${id}`, status: id % 5 ? 200 : 504, cause: id % 5 ? undefined : REQUEST.cause, duration_ms: 3 + (id % 7) })}\n\n`), 120);
        response.on('close', () => clearInterval(timer));
        return;
      }
      case at.startsWith('/requests/'): return json(REQUEST);
      default: return json({ title: 'Not found', status: 404, detail: `there is no ${pathname}` }, 404);
    }
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await start({ many: process.argv[3] === 'many' ? 1000 : 0, suspects: process.argv[3] === 'suspects' }, Number(process.argv[2] ?? 8099));
  process.stdout.write(`${url}\n`);
}

// What stands under "wrong now", and in which order.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend, Check, Pool, Status } from '../src/lib/shapes.ts';
import { isRising, wrong } from '../src/lib/wrong.ts';

function check(more: Partial<Check> = {}): Check {
  return {
    name: 'http', kind: 'http', address: '10.0.0.1:80', verdict: 'healthy', since: '2026-01-01T00:00:00Z', progress: null,
    passed_total: 1, failed_total: 0, void_total: 0, probing: { state: 'stopped' }, recent: [], ...more,
  };
}

function backend(address: string, more: Partial<Backend> = {}): Backend {
  return {
    address, weight: 1, effective_weight: 1, verdict: 'healthy', since: '2026-01-01T00:00:00Z', order: 'serve', agent: null, ejected_until: null,
    ramp_percent: 100, in_flight: 0, attempts_total: 0, checks: [check()], ...more,
  };
}

function pool(name: string, backends: Backend[], more: Partial<Pool> = {}): Pool {
  return { name, schedule: 'wrr', sticky: null, eligible: backends.length, refusal: null, panic: false, backends, ...more };
}

function status(pools: Pool[], more: Partial<Status> = {}): Status {
  return {
    version: '0', time: '2026-01-01T00:10:00Z', started: '2026-01-01T00:00:00Z', generation: 1, suspects_itself_since: null, holds_verdicts: false,
    probing: { targets: 1, in_flight: 0, lateness: { probes: 0, p50_ms: 0, p99_ms: 0, longest_ms: 0 } }, listeners: [], pools, events: [], ...more,
  };
}

const failed = { kind: 'http', started: '2026-01-01T00:09:59Z', duration_ms: 1, result: 'failed', text: 'connect: refused' } as const;
const passed = { ...failed, result: 'passed', text: 'status 200' } as const;
const kinds = (of: Status) => wrong(of, null, []).map((line) => line.kind);

test('a node where all is well has nothing to say', () => {
  assert.deepEqual(kinds(status([pool('web', [backend('10.0.0.1:80')])])), []);
});

test('an unhealthy backend is told with the newest failure of the check that failed, not with a later pass of another', () => {
  const checks = [check({ name: 'tcp', recent: [passed] }), check({ name: 'http', verdict: 'unhealthy', recent: [passed, failed] })];
  const [line] = wrong(status([pool('web', [backend('10.0.0.1:80', { verdict: 'unhealthy', checks })])]), null, []);
  assert.equal(line?.kind, 'unhealthy');
  assert.equal(line?.check?.name, 'http');
  assert.equal(line?.finding?.text, 'connect: refused');
});

test('what clients feel stands before what they do not', () => {
  const down = backend('10.0.0.1:80', { verdict: 'unhealthy' });
  const drained = backend('10.0.0.2:80', { order: 'drain' });
  const failing = backend('10.0.0.3:80', { checks: [check({ progress: { toward: 'unhealthy', results: 1, needed: 3 } })] });
  const of = status([pool('a', [drained, failing, backend('10.0.0.9:80')]), pool('b', [down], { refusal: 'all_backends_unhealthy', eligible: 0 })]);
  assert.deepEqual(kinds(of), ['refusing', 'unhealthy', 'failing', 'drained']);
});

test('an order speaks for a backend, whatever its verdict', () => {
  assert.deepEqual(kinds(status([pool('web', [backend('10.0.0.1:80', { order: 'maintain', verdict: 'unhealthy' })])])), ['maintained']);
});

test('many backends wrong in one way are one line, few are told one by one', () => {
  const down = (number: number) => Array.from({ length: number }, (_, at) => backend(`10.0.0.${at + 1}:80`, { verdict: 'unhealthy' as const }));
  assert.equal(wrong(status([pool('web', down(4))]), null, []).length, 4);
  const [one, ...others] = wrong(status([pool('web', down(300))]), null, []);
  assert.equal(others.length, 0);
  assert.equal(one?.backends.length, 300);
});

test('keys stay the same while what they stand for lasts, and differ from each other', () => {
  const of = status([pool('web', [backend('10.0.0.1:80', { verdict: 'unhealthy' }), backend('10.0.0.2:80', { verdict: 'unhealthy' })]), pool('api', [backend('10.0.0.1:80', { verdict: 'unhealthy' })])]);
  const first = wrong(of, null, []).map((line) => line.key);
  assert.equal(new Set(first).size, 3);
  assert.deepEqual(wrong(of, null, []).map((line) => line.key), first);
});

test('a cause rises when the last minute is well above what went before', () => {
  assert.equal(isRising(41, 60), true);
  assert.equal(isRising(15, 220), false);
  assert.equal(isRising(2, 2), false);
  assert.equal(isRising(0, 0), false);
});

test('a file that differs and a suspicion are told', () => {
  const config = { file: '/etc/x.toml', hash: 'a', file_hash: 'b', same: false, changes: 2 };
  assert.deepEqual(kinds(status([], { config, suspects_itself_since: '2026-01-01T00:09:00Z', holds_verdicts: true })), ['suspicion', 'held', 'config', 'runtime']);
});

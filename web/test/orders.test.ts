// What an order is said to do before it is given.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forecast } from '../src/lib/orders.ts';
import type { Backend, Pool } from '../src/lib/shapes.ts';

function backend(address: string, more: Partial<Backend> = {}): Backend {
  return {
    address, weight: 10, effective_weight: 10, verdict: 'healthy', since: '', order: 'serve', agent: null, ejected_until: null,
    ramp_percent: 100, in_flight: 3, attempts_total: 0, checks: [], ...more,
  };
}

function pool(backends: Backend[]): Pool {
  return { name: 'web', schedule: 'wrr', sticky: null, eligible: backends.filter((one) => one.effective_weight > 0).length, refusal: null, panic: false, backends };
}

const a = backend('a', { effective_weight: 30 });
const b = backend('b');
const down = backend('c', { verdict: 'unhealthy', effective_weight: 0 });

test('draining one of two moves its share to the other', () => {
  const will = forecast(pool([a, b, down]), a, 'drain');
  assert.deepEqual([will.left, will.movesPercent, will.refuses, will.inFlight], [1, 75, false, 3]);
});

test('draining the last that takes work is said to make the pool refuse', () => {
  assert.equal(forecast(pool([b, down]), b, 'maintain').refuses, true);
});

test('a pool that refuses already is not said to begin with it', () => {
  assert.equal(forecast(pool([down]), down, 'drain').refuses, false);
});

test('serving an unhealthy backend is said to bring it no work', () => {
  assert.equal(forecast(pool([b, { ...down, order: 'drain' }]), { ...down, order: 'drain' }, 'serve').stillOut, true);
  const drained = backend('d', { order: 'drain', effective_weight: 0 });
  const will = forecast(pool([b, drained]), drained, 'serve');
  assert.deepEqual([will.stillOut, will.left], [false, 2]);
});

test('backends without a check take work though their verdict is unknown', () => {
  const unchecked = backend('e', { verdict: 'unknown' });
  assert.equal(forecast(pool([unchecked, b]), b, 'drain').refuses, false);
});

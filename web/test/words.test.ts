// No text is missing in a language, and none was left in the other.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { en } from '../src/words/en.ts';
import { zh } from '../src/words/zh.ts';

function keys(table: object, path = ''): string[] {
  return Object.entries(table).flatMap(([key, value]) => (value && typeof value === 'object' ? keys(value, `${path}${key}.`) : [`${path}${key}`]));
}

function at(table: object, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], table);
}

test('each language has every text, and no other', () => {
  assert.deepEqual(keys(zh).sort(), keys(en).sort());
});

test('texts take the same number of values in each language', () => {
  for (const path of keys(en)) assert.equal(typeof at(zh, path), typeof at(en, path), path);
});

test('no Chinese text is empty or was left in English', () => {
  const same = new Set(['traffic.p50', 'traffic.p99', 'phases.tls']);
  for (const path of keys(zh)) {
    const text = at(zh, path);
    if (typeof text !== 'string' || same.has(path)) continue;
    assert.match(text, /[\u4e00-\u9fff]|^PROXY/u, path);
  }
});

test('every cause of the balancer has a name in each language', () => {
  const source = readFileSync(new URL('../../../crates/model/src/cause.rs', import.meta.url), 'utf8');
  const table = source.slice(source.indexOf('\ncauses! {'));
  const codes = [...table.matchAll(/^ {4}[A-Z]\w+ \{\n\s+"([a-z0-9_]+)"/gm)].map((found) => found[1] ?? '');
  assert.ok(codes.length > 40, `${codes.length} causes were found in cause.rs`);
  assert.deepEqual(Object.keys(en.causes).sort(), codes.sort());
});

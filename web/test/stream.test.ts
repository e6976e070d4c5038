// Server-sent events come out the same however their bytes are cut.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { splitter, type Said } from '../src/lib/api.ts';
import { span } from '../src/lib/numbers.ts';

const TEXT = ': hello\n\nid: 7\ndata: {"a":1}\n\nevent: dropped\r\ndata: 12\r\n\r\ndata: two\ndata: lines\n\nevent: empty\n\ndata: open';

function split(pieces: string[]): Said[] {
  const heard: Said[] = [];
  const feed = splitter((said) => heard.push(said));
  for (const piece of pieces) feed(piece);
  return heard;
}

const WHOLE: Said[] = [
  { event: 'message', id: '7', data: '{"a":1}' },
  { event: 'dropped', id: '7', data: '12' },
  { event: 'message', id: '7', data: 'two\nlines' },
];

test('a stream is told event by event; what has no data and what is not complete is not told', () => {
  assert.deepEqual(split([TEXT]), WHOLE);
});

test('every cut in two gives the same', () => {
  for (let at = 1; at < TEXT.length; at += 1) assert.deepEqual(split([TEXT.slice(0, at), TEXT.slice(at)]), WHOLE, `cut at ${at}`);
});

test('byte by byte gives the same', () => {
  assert.deepEqual(split([...TEXT]), WHOLE);
});

test('spans are short and say their unit', () => {
  const table: [number, string][] = [[0, '0 ms'], [850, '850 ms'], [1234, '1.2 s'], [42_400, '42 s'], [60_000, '1 min'], [200_000, '3 min 20 s'], [18_720_000, '5 h 12 min'], [273_600_000, '3 d 4 h'], [-5, '0 ms']];
  for (const [ms, text] of table) assert.equal(span(ms), text);
});

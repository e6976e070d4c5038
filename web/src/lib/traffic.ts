// The samples of /history as series for charts. Samples hold totals of their step or gauges; rates are per second.

import type { BackendSample, History, ListenerSample } from './shapes.ts';

export interface Series {
  times: number[];
  rate: (number | null)[];
  failed: (number | null)[];
  p50: (number | null)[];
  p99: (number | null)[];
  inFlight: (number | null)[];
}

type Counted = { requests?: number; attempts?: number; failed: number; p50_ms: number | null; p99_ms: number | null; in_flight?: number; connections?: number };

function series(history: History, pick: (at: number) => Counted | undefined): Series {
  const seconds = history.step_ms / 1000;
  const made: Series = { times: [], rate: [], failed: [], p50: [], p99: [], inFlight: [] };
  history.samples.forEach((sample, at) => {
    const one = pick(at);
    made.times.push(Date.parse(sample.time) / 1000);
    made.rate.push(one ? (one.requests ?? one.attempts ?? 0) / seconds : null);
    made.failed.push(one ? one.failed / seconds : null);
    made.p50.push(one?.p50_ms ?? null);
    made.p99.push(one?.p99_ms ?? null);
    made.inFlight.push(one ? (one.in_flight ?? one.connections ?? 0) : null);
  });
  return made;
}

export function ofListener(history: History, name: string): Series {
  return series(history, (at) => history.samples[at]?.listeners[name]);
}

export function ofBackend(history: History, pool: string, address: string): Series {
  return series(history, (at) => history.samples[at]?.backends[`${pool}/${address}`]);
}

/** A pool as its samples say, or as the sum of its backends. Percentiles cannot be added: the slowest backend's is shown. */
export function ofPool(history: History, pool: string): Series {
  return series(history, (at) => {
    const sample = history.samples[at];
    const own = sample?.pools?.[pool] ?? sample?.backends[pool];
    if (own || !sample) return own;
    let sum: BackendSample | undefined;
    for (const [name, one] of Object.entries(sample.backends)) {
      if (!name.startsWith(`${pool}/`)) continue;
      sum = sum
        ? {
            attempts: sum.attempts + one.attempts,
            failed: sum.failed + one.failed,
            in_flight: sum.in_flight + one.in_flight,
            p50_ms: larger(sum.p50_ms, one.p50_ms),
            p99_ms: larger(sum.p99_ms, one.p99_ms),
          }
        : one;
    }
    return sum;
  });
}

export function ofAll(history: History): Series {
  return series(history, (at) => {
    const all = Object.values(history.samples[at]?.listeners ?? {});
    return all.reduce<ListenerSample | undefined>(
      (sum, one) =>
        sum
          ? {
              requests: sum.requests + one.requests,
              failed: sum.failed + one.failed,
              connections: sum.connections + one.connections,
              bytes_in: sum.bytes_in + one.bytes_in,
              bytes_out: sum.bytes_out + one.bytes_out,
              p50_ms: larger(sum.p50_ms, one.p50_ms),
              p99_ms: larger(sum.p99_ms, one.p99_ms),
            }
          : one,
      undefined,
    );
  });
}

function larger(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.max(a, b);
}

export function last(values: readonly (number | null)[]): number | null {
  for (let at = values.length - 1; at >= 0; at -= 1) {
    const value = values[at];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

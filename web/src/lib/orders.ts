// What an action will do, worked out before it is asked for, so that the question tells it.

import type { Backend, Order, Pool } from './shapes.ts';

export interface Forecast {
  /** Backends that get new work afterwards. */
  left: number;
  /** The same now. */
  before: number;
  /** Work at the backend that runs on. */
  inFlight: number;
  /** Part of the pool's work that moves, in percent. */
  movesPercent: number;
  /** The pool turns new work away afterwards, though it did not before. */
  refuses: boolean;
  /** The order lets it in, but its verdict does not. */
  stillOut: boolean;
}

/** Orders, verdict, ejection and what its agent says are all in the weight that is in force. */
function gets(backend: Backend): boolean {
  return backend.effective_weight > 0;
}

export function forecast(pool: Pool, backend: Backend, order: Order): Forecast {
  const others = pool.backends.filter((other) => other.address !== backend.address);
  const left = others.filter(gets).length;
  const before = pool.eligible;
  const total = pool.backends.filter(gets).reduce((sum, one) => sum + one.effective_weight, 0);
  const own = gets(backend) ? backend.effective_weight : 0;
  const serves = order === 'serve' && backend.verdict !== 'unhealthy' && !backend.ejected_until;
  return {
    left: left + (serves ? 1 : 0),
    before,
    inFlight: backend.in_flight,
    movesPercent: total > 0 ? Math.round((100 * own) / total) : 0,
    refuses: order !== 'serve' && left === 0 && before > 0,
    stillOut: order === 'serve' && !serves,
  };
}

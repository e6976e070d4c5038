// What the operator is about to do, what came of it, and what is open on top of the page.

import type { Backend, Pool } from './shapes.ts';
import { paths, post, Refused } from './api.ts';
import { node } from './node.svelte.ts';
import { say } from './say.svelte.ts';

export type Verb = 'serve' | 'drain' | 'maintain' | 'weight';

export type Question = { what: 'order'; verb: Verb; pool: string; address: string } | { what: 'reload' };

export interface Notice {
  good: boolean;
  text: string;
  problems: string[];
}

class Act {
  question = $state.raw<Question | null>(null);
  notice = $state.raw<Notice | null>(null);
  help = $state(false);
  token = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  ask(question: Question): void {
    this.question = question;
  }

  /** Nothing changes by a probe, so it is not asked twice. */
  async probe(pool: string, address: string): Promise<void> {
    await this.do(() => post(paths.backend(pool, address, 'probe'), {}), say.w.done.probe(`${pool}/${address}`));
  }

  /** Whether it went well. */
  async do(send: () => Promise<unknown>, told: string): Promise<boolean> {
    try {
      await send();
      this.tell({ good: true, text: told, problems: [] });
      node.soon();
      return true;
    } catch (error) {
      if (error instanceof Refused && error.wantsToken) this.token = true;
      this.tell(refused(error));
      return false;
    }
  }

  tell(notice: Notice): void {
    clearTimeout(this.#timer);
    this.notice = notice;
    if (notice.good) this.#timer = setTimeout(() => (this.notice = null), 6000);
  }
}

export function refused(error: unknown): Notice {
  if (error instanceof Refused) return { good: false, text: error.message, problems: error.problems };
  return { good: false, text: say.w.away.unanswered, problems: [error instanceof Error ? error.message : String(error)] };
}

export const act = new Act();

export function find(pool: string, address: string): { pool: Pool; backend: Backend } | null {
  const found = node.status?.pools.find((one) => one.name === pool);
  const backend = found?.backends.find((one) => one.address === address);
  return found && backend ? { pool: found, backend } : null;
}

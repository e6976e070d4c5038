// What is known of the node, asked again and again, and since when it has not answered.
//
// The next question waits for the answer to the last one, and for four times as long as that took: a node with 100,000
// backends is not asked each second for a document that costs it a second. While the node is away the last picture stays.

import { Away, get, paths, Refused, stream, token } from './api.ts';
import type { Causes, Event, History, Listener, Status } from './shapes.ts';

const STATUS_EVERY_MS = 1000;
const STATUS_AT_MOST_MS = 15_000;
const HIDDEN_EVERY_MS = 20_000;
const SLOWER_EVERY_MS = 5000;
const BACKOFF_MS = [1000, 2000, 4000, 8000, 15_000];
const EVENTS_KEPT = 1000;

class Node {
  status = $state.raw<Status | null>(null);
  history = $state.raw<History | null>(null);
  causes = $state.raw<Causes | null>(null);
  listeners = $state.raw<Listener[] | null>(null);
  /** Newest first. */
  events = $state.raw<Event[]>([]);
  /** Moment, by this browser, of the last answer. */
  seen = $state(0);
  awaySince = $state<number | null>(null);
  awayWhy = $state('');
  retryAt = $state(0);
  wantsToken = $state(false);
  hasToken = $state(token() !== null);
  /** This browser's time, a few times a second, for what counts down. */
  now = $state(Date.now());

  #timer: ReturnType<typeof setTimeout> | undefined;
  #tries = 0;
  #asking = false;
  #stop = new AbortController();
  #reading = new AbortController();
  #slower = 0;
  #listenersOf = '';

  start(): void {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now();
    }, 250);
    document.addEventListener('visibilitychange', () => {
      // A browser opens six connections to a node, over all its tabs: those nobody looks at give their stream back.
      if (document.hidden) this.#reading.abort();
      else this.soon();
    });
    addEventListener('online', () => this.soon());
    void this.#ask();
    void this.#follow();
  }

  /** The node's own time, as far as this browser can tell. */
  get theirNow(): number {
    const told = this.status ? Date.parse(this.status.time) : Number.NaN;
    return Number.isNaN(told) ? this.now : told + Math.max(0, this.now - this.seen);
  }

  /** Asks at once. */
  soon(): void {
    clearTimeout(this.#timer);
    this.#slower = 0;
    if (!this.#asking) void this.#ask();
  }

  /** A token was given or forgotten. */
  again(): void {
    this.wantsToken = false;
    this.hasToken = token() !== null;
    this.#stop.abort();
    this.#reading.abort();
    this.#stop = new AbortController();
    void this.#follow();
    this.soon();
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    const began = performance.now();
    let wait = STATUS_EVERY_MS;
    try {
      this.status = await get<Status>(paths.status);
      this.now = this.seen = Date.now();
      this.awaySince = null;
      this.wantsToken = false;
      this.#tries = 0;
      if (this.events.length === 0) this.#merge(this.status.events);
      void this.#askListeners(this.status);
      wait = Math.min(STATUS_AT_MOST_MS, Math.max(STATUS_EVERY_MS, 4 * (performance.now() - began)));
      if (Date.now() >= this.#slower) {
        this.#slower = Date.now() + Math.max(SLOWER_EVERY_MS, wait);
        await this.#askSlower();
      }
    } catch (error) {
      wait = this.#failed(error);
    }
    if (document.hidden) wait = Math.max(wait, HIDDEN_EVERY_MS);
    this.retryAt = Date.now() + wait;
    this.#asking = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#ask(), wait);
  }

  #failed(error: unknown): number {
    if (error instanceof Refused && error.wantsToken) {
      this.wantsToken = true;
    } else {
      this.awaySince ??= this.seen || Date.now();
      this.awayWhy = error instanceof Error ? error.message : String(error);
    }
    const wait = BACKOFF_MS[Math.min(this.#tries, BACKOFF_MS.length - 1)] ?? STATUS_AT_MOST_MS;
    this.#tries += 1;
    return wait;
  }

  /** What a page can do without: an older node, or one built without it, does not have it. */
  async #askSlower(): Promise<void> {
    const one = async <T>(path: string, keep: (value: T) => void): Promise<void> => {
      try {
        keep(await get<T>(path));
      } catch (error) {
        if (error instanceof Away) throw error;
      }
    };
    await Promise.all([
      one<History>(paths.history, (value) => (this.history = value)),
      one<Causes>(paths.causes, (value) => (this.causes = value)),
    ]);
  }

  /** Rules change with the plan only, and there may be thousands. */
  async #askListeners(status: Status): Promise<void> {
    const plan = `${status.started} ${status.config?.hash ?? status.generation}`;
    if (plan === this.#listenersOf) return;
    this.#listenersOf = plan;
    try {
      this.listeners = (await get<{ listeners: Listener[] }>(paths.listeners)).listeners;
    } catch {
      this.#listenersOf = '';
    }
  }

  /** Events as they happen. Each is also a reason to look at the status at once. */
  async #follow(): Promise<void> {
    const stop = this.#stop;
    let tries = 0;
    while (!stop.signal.aborted) {
      if (document.hidden) {
        await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
        continue;
      }
      const reading = (this.#reading = new AbortController());
      try {
        const told = await get<{ events: Event[] }>(paths.events(500));
        this.#merge(told.events);
        // Of these alone: a node that was started anew counts from one again.
        const after = told.events.reduce((most, event) => Math.max(most, event.seq ?? 0), 0);
        await stream(paths.eventStream, String(after), reading.signal, () => (tries = 0), (said) => {
          try {
            const event = JSON.parse(said.data) as Event;
            if (typeof event.text !== 'string') return;
            if (event.seq === undefined && said.id) event.seq = Number(said.id);
            this.#merge([event]);
            this.soon();
          } catch {
            // A line of a newer node that is no event.
          }
        });
      } catch (error) {
        if (error instanceof Refused && error.absent && this.status) this.#merge(this.status.events);
      }
      if (document.hidden) continue;
      const wait = BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)] ?? STATUS_AT_MOST_MS;
      tries += 1;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  #merge(more: readonly Event[]): void {
    const name = (event: Event) => `${event.time} ${event.event} ${event.text}`;
    const known = new Map(this.events.map((event) => [name(event), event]));
    const before = known.size;
    for (const event of more) {
      const had = known.get(name(event));
      if (!had || (had.seq === undefined && event.seq !== undefined)) known.set(name(event), event);
    }
    if (known.size === before && more.every((event) => event.seq === undefined)) return;
    this.events = [...known.values()]
      .sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : (b.seq ?? 0) - (a.seq ?? 0)))
      .slice(0, EVENTS_KEPT);
  }
}

export const node = new Node();

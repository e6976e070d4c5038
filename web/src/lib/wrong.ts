// What is wrong now, from what the node says of itself. Decides; shows nothing.
//
// A line names what is the matter, the evidence, and so which advice belongs to it. What an operator ordered is listed too,
// last: a forgotten drain is the usual reason for a pool that is short of backends. Many backends of one pool that are wrong
// in one way are one line, or a thousand lines would hide the one that differs.

import type { Backend, Causes, Check, Event, Finding, Listener, Pool, Status } from './shapes.ts';

export type Weight = 'bad' | 'warn' | 'note';

export type Kind =
  | 'suspicion'
  | 'held'
  | 'refusing'
  | 'panic'
  | 'unhealthy'
  | 'ejected'
  | 'failing'
  | 'unjudged'
  | 'void'
  | 'late'
  | 'config'
  | 'runtime'
  | 'cause'
  | 'agent'
  | 'drained'
  | 'maintained'
  | 'weighed';

export interface Line {
  kind: Kind;
  weight: Weight;
  /** The same from one look to the next, so that a list does not jump. */
  key: string;
  since: string | null;
  pool: string | null;
  backends: Backend[];
  of: number;
  check: Check | null;
  finding: Finding | null;
  cause: string | null;
  /** Listeners whose clients feel it. */
  listeners: string[];
  until: string | null;
  number: number;
  text: string | null;
}

/** More backends of a pool than this, wrong in one way, are folded into one line. */
const FOLD_OVER = 4;

/** Probes that start later than this are told of; from a second on windows are no longer what was configured. */
const LATE_MS = 100;
const VERY_LATE_MS = 1000;

const HEAVY: Record<Weight, number> = { bad: 0, warn: 1, note: 2 };

export function wrong(status: Status, causes: Causes | null, events: readonly Event[], listeners: readonly Listener[] | null = null): Line[] {
  const lines: Line[] = [...ofNode(status, events), ...(causes ? rising(causes) : [])];
  // Pools whose clients get errors first, each followed by what keeps its backends out.
  const pools = [...status.pools].sort((a, b) => Number(b.refusal !== null) - Number(a.refusal !== null) || Number(b.panic) - Number(a.panic));
  for (const pool of pools) lines.push(...ofPool(pool, listeners ?? status.listeners, events));
  return lines.sort((a, b) => HEAVY[a.weight] - HEAVY[b.weight]);
}

function line(kind: Kind, weight: Weight, key: string, more: Partial<Line> = {}): Line {
  return {
    kind,
    weight,
    key: `${kind} ${key}`,
    since: null,
    pool: null,
    backends: [],
    of: 0,
    check: null,
    finding: null,
    cause: null,
    listeners: [],
    until: null,
    number: 0,
    text: null,
    ...more,
  };
}

function latest(events: readonly Event[], name: string, fits: (event: Event) => boolean = () => true): Event | null {
  return events.find((event) => event.event === name && fits(event)) ?? null;
}

/** Of events that are newest first. */
function ofNode(status: Status, events: readonly Event[]): Line[] {
  const lines: Line[] = [];
  if (status.suspects_itself_since) {
    const said = latest(events, 'node.suspects_itself');
    lines.push(line('suspicion', 'bad', '', { since: status.suspects_itself_since, text: said?.text ?? null }));
  }
  if (status.holds_verdicts) {
    const held = events.filter((event) => event.event === 'backend.verdict_held_back');
    const began = latest(events, 'node.holds_verdicts');
    const now = held.filter((event) => !began || event.time >= began.time);
    lines.push(line('held', 'warn', '', { since: began?.time ?? null, number: now.length, text: now[0]?.text ?? null }));
  }
  if (status.config) {
    if (!status.config.same) lines.push(line('config', 'warn', '', { text: status.config.file }));
    if (status.config.changes > 0) lines.push(line('runtime', 'note', '', { number: status.config.changes }));
  }
  const late = status.probing.lateness;
  if (late.probes > 20 && late.p99_ms > LATE_MS) lines.push(line('late', late.p99_ms > VERY_LATE_MS ? 'warn' : 'note', '', { number: late.p99_ms }));
  return lines;
}

/** Causes that came at least three times as often in the last minute as in the quarter of an hour before. */
function rising(causes: Causes): Line[] {
  return causes.causes
    .filter((cause) => isRising(cause.last_minute, cause.last_15_minutes))
    .map((cause) =>
      line('cause', cause.blame === 'client' ? 'note' : 'warn', cause.code, {
        cause: cause.code,
        number: cause.last_minute,
        text: cause.blame,
      }),
    );
}

export function isRising(lastMinute: number, last15: number): boolean {
  return lastMinute >= 3 && lastMinute > (3 * Math.max(0, last15 - lastMinute)) / 14;
}

function ofPool(pool: Pool, listeners: readonly Listener[], events: readonly Event[]): Line[] {
  const lines: Line[] = [];
  const served = listeners
    .filter((listener) => listener.pool === pool.name || listener.rules?.some((rule) => rule.pool === pool.name))
    .map((listener) => listener.name);
  const of = pool.backends.length;
  if (pool.refusal) {
    lines.push(line('refusing', 'bad', pool.name, { pool: pool.name, cause: pool.refusal, listeners: served, of }));
  }
  if (pool.panic) lines.push(line('panic', 'bad', pool.name, { pool: pool.name, listeners: served, of, number: pool.eligible }));

  const groups = new Map<Kind, Line[]>();
  for (const backend of pool.backends) {
    for (const found of ofBackend(pool, backend, events)) {
      const group = groups.get(found.kind);
      if (group) group.push(found);
      else groups.set(found.kind, [found]);
    }
  }
  for (const [kind, group] of groups) lines.push(...(group.length > FOLD_OVER ? [fold(kind, pool, group)] : group));
  return lines;
}

/** One line for many, with the evidence of the one that turned last. */
function fold(kind: Kind, pool: Pool, group: readonly Line[]): Line {
  const latest = group.reduce((a, b) => ((b.since ?? '') > (a.since ?? '') ? b : a));
  return { ...latest, key: `${kind} ${pool.name}`, backends: group.flatMap((one) => one.backends) };
}

function ofBackend(pool: Pool, backend: Backend, events: readonly Event[]): Line[] {
  const about = (more: Partial<Line>): Partial<Line> => ({
    pool: pool.name,
    backends: [backend],
    of: pool.backends.length,
    ...more,
  });
  const key = `${pool.name} ${backend.address}`;
  const is = (event: Event) => event.pool === pool.name && event.backend === backend.address;

  if (backend.order !== 'serve') {
    const ordered = latest(events, 'backend.ordered', is);
    const kind = backend.order === 'drain' ? 'drained' : 'maintained';
    return [line(kind, 'note', key, about({ since: ordered?.time ?? null, until: backend.order_until ?? null, text: ordered?.by ?? null }))];
  }
  const lines: Line[] = [];
  if (backend.verdict === 'unhealthy') {
    const { check, finding } = fault(backend);
    lines.push(line('unhealthy', 'bad', key, about({ since: backend.since, check, finding })));
  } else if (backend.verdict === 'unknown' && backend.checks.length > 0) {
    const check = backend.checks.find((one) => one.verdict === 'unknown') ?? null;
    lines.push(line('unjudged', 'warn', key, about({ since: backend.since, check, finding: check?.recent[0] ?? null })));
  } else {
    const check = backend.checks.find((one) => one.progress?.toward === 'unhealthy' && one.progress.results > 0);
    if (check) lines.push(line('failing', 'warn', key, about({ check, finding: failure(check) })));
  }
  const voided = backend.checks.find((check) => check.recent[0]?.result === 'void');
  if (voided && backend.verdict !== 'unknown') {
    lines.push(line('void', 'warn', key, about({ check: voided, finding: voided.recent[0] ?? null })));
  }
  if (backend.ejected_until) {
    const ejected = latest(events, 'backend.ejected', is);
    lines.push(line('ejected', 'warn', key, about({ since: ejected?.time ?? null, until: backend.ejected_until, text: ejected?.text ?? null })));
  }
  if (backend.weight_of_file !== undefined && backend.weight !== backend.weight_of_file) lines.push(line('weighed', 'note', key, about({ number: backend.weight, text: String(backend.weight_of_file) })));
  if (backend.agent) lines.push(line('agent', 'note', key, about({ number: backend.agent.percent, text: backend.agent.order })));
  return lines;
}

/** The check that made a backend unhealthy, and the newest failure it saw. */
export function fault(backend: Backend): { check: Check | null; finding: Finding | null } {
  const check = backend.checks.find((one) => one.verdict === 'unhealthy') ?? backend.checks[0] ?? null;
  return { check, finding: check ? failure(check) : null };
}

export function failure(check: Check): Finding | null {
  return check.recent.find((finding) => finding.result === 'failed') ?? null;
}

/** The evidence of a row: what failed, else what was seen last. */
export function evidence(backend: Backend): { check: Check; finding: Finding } | null {
  const failing =
    backend.checks.find((check) => check.verdict === 'unhealthy') ??
    backend.checks.find((check) => check.progress) ??
    backend.checks.find((check) => check.recent[0] && check.recent[0].result !== 'passed') ??
    backend.checks[0];
  if (!failing) return null;
  const wantsFailure = failing.verdict === 'unhealthy' || failing.progress?.toward === 'unhealthy';
  const finding = (wantsFailure ? failure(failing) : null) ?? failing.recent[0];
  return finding ? { check: failing, finding } : null;
}

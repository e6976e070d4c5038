// Asks the node, and says in words why an answer did not come.
//
// The token, where the node wants one, lives in this tab's session storage and goes out in a header; so streams are read by
// fetch, for an EventSource has no headers.

import type { ProblemDetails } from './shapes.ts';

const TOKEN = 'evenkeel.token';

/** Longest wait for an answer; a node under load answers late, a node that is away not at all. */
const PATIENCE_MS = 15_000;

export class Refused extends Error {
  readonly status: number;
  readonly problems: string[];

  constructor(status: number, message: string, problems: string[] = []) {
    super(message);
    this.status = status;
    this.problems = problems;
  }

  get wantsToken(): boolean {
    return this.status === 401;
  }

  get absent(): boolean {
    return this.status === 404 || this.status === 405 || this.status === 501;
  }
}

/** The node could not be asked at all. */
export class Away extends Error {}

export function token(): string | null {
  return sessionStorage.getItem(TOKEN);
}

export function keepToken(value: string | null): void {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

function headers(more: Record<string, string> = {}): Headers {
  const all = new Headers({ Accept: 'application/json', ...more });
  const kept = token();
  if (kept) all.set('Authorization', `Bearer ${kept}`);
  return all;
}

async function sent(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, { cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(PATIENCE_MS), ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Away(error instanceof Error ? error.message : String(error));
  }
}

async function refusal(answer: Response): Promise<Refused> {
  const text = await answer.text().catch(() => '');
  try {
    const problem = JSON.parse(text) as ProblemDetails;
    return new Refused(answer.status, problem.detail || problem.title || `${answer.status} ${answer.statusText}`, (problem.errors ?? []).map(sentence));
  } catch {
    return new Refused(answer.status, text.trim().slice(0, 300) || `${answer.status} ${answer.statusText}`);
  }
}

function sentence(problem: unknown): string {
  if (typeof problem === 'string') return problem;
  if (problem && typeof problem === 'object') {
    const { line, column, text, help, detail } = problem as Record<string, unknown>;
    const said = text ?? detail;
    const place = typeof line === 'number' ? `${line}:${String(column ?? 1)}: ` : '';
    if (typeof said === 'string') return `${place}${said}${typeof help === 'string' ? `\n${help}` : ''}`;
  }
  return JSON.stringify(problem);
}

async function body<T>(answer: Response): Promise<T> {
  if (!answer.ok) throw await refusal(answer);
  const text = await answer.text().catch((error: unknown) => {
    throw new Away(String(error));
  });
  return (text ? JSON.parse(text) : null) as T;
}

export async function get<T>(path: string): Promise<T> {
  return body<T>(await sent(path, { headers: headers() }));
}

export async function post<T>(path: string, value: unknown): Promise<T> {
  return body<T>(
    await sent(path, {
      method: 'POST',
      headers: headers({ 'Content-Type': 'application/json' }),
      body: JSON.stringify(value),
    }),
  );
}

export interface Said {
  event: string;
  id: string | null;
  data: string;
}

/** Splits a stream of server-sent events (WHATWG HTML, 9.2.6) into what it says, however its bytes are cut. */
export function splitter(say: (said: Said) => void): (text: string) => void {
  let rest = '';
  let event = '';
  let id: string | null = null;
  let data: string[] = [];
  return (text) => {
    rest += text;
    // A lone \r at the end may be half of \r\n.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) say({ event: event || 'message', id, data: data.join('\n') });
        event = '';
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') event = value;
      else if (field === 'data') data.push(value);
      else if (field === 'id') id = value;
    }
  };
}

/** Reads a stream until it ends or is stopped. Throws what `get` throws. */
export async function stream(path: string, after: string | null, stop: AbortSignal, opened: () => void, say: (said: Said) => void): Promise<void> {
  const more: Record<string, string> = { Accept: 'text/event-stream' };
  if (after !== null) more['Last-Event-ID'] = after;
  const answer = await sent(path, { headers: headers(more), signal: stop });
  if (!answer.ok) throw await refusal(answer);
  if (!answer.body) return;
  opened();
  const split = splitter(say);
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      split(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    if (stop.aborted) return;
    throw new Away(String(error));
  }
}

export const paths = {
  status: '/api/v1/status',
  history: '/api/v1/history?minutes=15',
  causes: '/api/v1/causes',
  cause: (code: string) => `/api/v1/causes/${encodeURIComponent(code)}`,
  events: (limit: number) => `/api/v1/events?limit=${limit}`,
  eventStream: '/api/v1/events/stream',
  requests: (query: Record<string, string>) => `/api/v1/requests?${new URLSearchParams(query)}`,
  request: (id: string) => `/api/v1/requests/${encodeURIComponent(id)}`,
  requestStream: (failedOnly: boolean) => `/api/v1/requests/stream${failedOnly ? '?failed=true' : ''}`,
  listeners: '/api/v1/listeners',
  config: '/api/v1/config',
  diff: '/api/v1/config/diff',
  reload: '/api/v1/config/reload',
  route: '/api/v1/route',
  backend: (pool: string, address: string, verb: string) =>
    `/api/v1/pools/${encodeURIComponent(pool)}/backends/${encodeURIComponent(address)}/${verb}`,
};

// What the admin API answers, as far as this page reads it. Names are the API's own.
//
// Fields that an older node may not send are optional: the page shows less then, and does not fail.

export type Verdict = 'unknown' | 'healthy' | 'unhealthy';
export type Order = 'serve' | 'drain' | 'maintain';

export interface Finding {
  kind: string;
  started: string;
  duration_ms: number;
  result: 'passed' | 'failed' | 'void';
  text: string;
  phase?: string;
  reason?: string;
  output?: string;
}

export interface Progress {
  toward: Verdict;
  results: number;
  needed: number;
}

export type Probing =
  | { state: 'stopped' }
  | { state: 'waiting'; next_in_ms: number }
  | { state: 'in_flight'; for_ms: number };

export interface Check {
  name: string;
  kind: string;
  address: string;
  verdict: Verdict;
  since: string;
  agent?: string | null;
  rests_on_silence?: boolean;
  silence?: string | null;
  progress: Progress | null;
  passed_total: number;
  failed_total: number;
  void_total: number;
  probing: Probing;
  /** Newest first. */
  recent: Finding[];
}

export interface Backend {
  address: string;
  /** Of the file, or of an order. */
  weight: number;
  weight_of_file?: number;
  effective_weight: number;
  verdict: Verdict;
  since: string;
  order: Order;
  order_until?: string | null;
  order_kept?: boolean | null;
  agent: { order: Order; percent: number } | null;
  ejected_until: string | null;
  ramp_percent: number;
  in_flight: number;
  attempts_total: number;
  checks: Check[];
}

export interface Pool {
  name: string;
  schedule: string;
  sticky: string | null;
  eligible: number;
  refusal: string | null;
  panic: boolean;
  backends: Backend[];
}

export interface Rule {
  name: string;
  when?: string;
  does?: string;
  pool?: string | null;
}

export interface Listener {
  name: string;
  protocol: string;
  listen: string[];
  pool: string | null;
  connections: number;
  connections_total: number;
  requests_total: number;
  rules?: Rule[];
}

export interface Event {
  seq?: number;
  time: string;
  event: string;
  level: 'info' | 'warn' | 'error';
  text: string;
  pool?: string;
  backend?: string;
  check?: string;
  from?: string;
  to?: string;
  because?: string;
  by?: string;
  findings?: Finding[];
}

export interface ConfigState {
  file: string | null;
  hash: string;
  file_hash: string | null;
  same: boolean;
  changes: number;
}

export interface Status {
  version: string;
  time: string;
  started: string;
  generation: number;
  suspects_itself_since: string | null;
  holds_verdicts: boolean;
  probing: {
    targets: number;
    in_flight: number;
    lateness: { probes: number; p50_ms: number; p99_ms: number; longest_ms: number };
  };
  listeners: Listener[];
  pools: Pool[];
  events: Event[];
  config?: ConfigState;
  node?: { name?: string | null; pid?: number };
}

export interface CauseBy {
  listener?: string | null;
  pool?: string | null;
  backend?: string | null;
  total: number;
}

export interface CauseCount {
  code: string;
  blame: string;
  phase: string;
  total: number;
  last_minute: number;
  last_15_minutes: number;
  last_hour: number;
  by?: CauseBy[];
  last?: { time: string; request?: string | null } | null;
}

export interface Causes {
  since: string;
  causes: CauseCount[];
  by_blame?: Record<string, unknown>;
}

export interface Explained {
  code: string;
  blame: string;
  phase: string;
  status: number | null;
  proxy_status_error: string | null;
  client_gets: string;
  meaning: string;
  evidence: { field: string; meaning: string }[];
  advice: string;
}

export interface Step {
  phase: string;
  /** Before 0 where the connection is older than the request. */
  at_ms: number;
  took_ms?: number | null;
  what?: string | null;
  evidence?: unknown;
  cause?: string | null;
}

export interface Attempt {
  backend: string;
  ms: number;
  cause?: string;
}

/** A line of the access log; with its timeline where it was kept. */
export interface Request {
  id?: string;
  time: string;
  listener: string;
  client: string;
  method?: string;
  host?: string;
  target?: string;
  version?: string;
  user_agent?: string;
  status?: number;
  bytes_in: number;
  bytes_out: number;
  duration_ms: number;
  pool?: string;
  backend?: string;
  reused?: boolean;
  idle_ms?: number;
  head_ms?: number;
  picked_ms?: number;
  connected_ms?: number;
  sent_ms?: number;
  first_byte_ms?: number;
  cause?: string;
  blame?: string;
  phase?: string;
  detail?: string;
  attempts?: Attempt[];
  timeline?: Step[];
  backend_then?: { verdict?: string; for_ms?: number; order?: string; in_flight?: number } | null;
  timer?: { key: string; value: unknown; config?: { file?: string; line?: number } | string | null } | null;
  explanation?: string[] | string | null;
}

export interface Kept {
  kept: number;
  /** Counted, and not kept, because others of their cause were in the same second. */
  counted_only?: number;
  requests: Request[];
}

export interface ListenerSample {
  requests: number;
  failed: number;
  connections: number;
  bytes_in: number;
  bytes_out: number;
  p50_ms: number | null;
  p99_ms: number | null;
}

export interface BackendSample {
  attempts: number;
  failed: number;
  in_flight: number;
  p50_ms: number | null;
  p99_ms: number | null;
}

export interface Sample {
  time: string;
  listeners: Record<string, ListenerSample>;
  backends: Record<string, BackendSample>;
  pools?: Record<string, BackendSample>;
}

export interface History {
  step_ms: number;
  samples: Sample[];
}

export interface RuntimeChange {
  pool: string;
  backend: string;
  what: 'order' | 'weight';
  value: string | number | null;
  by?: string;
  since?: string;
  until?: string | null;
  kept?: boolean;
}

export interface Config {
  file: string | null;
  hash: string;
  file_hash: string | null;
  same: boolean;
  text: string;
  changes: RuntimeChange[];
}

export interface DiffPart {
  added: unknown[];
  removed: unknown[];
  changed: unknown[];
}

export interface Diff {
  same: boolean;
  text?: string;
  runtime?: RuntimeChange[];
  [part: string]: unknown;
}

export interface Route {
  listener: string;
  protocol: string;
  rule: string | null;
  action: 'refuse' | 'redirect' | 'answer' | 'pool';
  refused: { cause: string; status: number | null; detail: string | null } | null;
  redirect: { status: number; location: string } | null;
  answer: { status: number; content_type: string; bytes: number } | null;
  pool: {
    name: string;
    schedule: string;
    by_default: string | null;
    path: string;
    backend: string | null;
    because: string;
    candidates: { address: string; percent: number }[];
    aside: { address: string; why: string }[];
  } | null;
  rules: { name: string; place: 'taken' | 'runner_up' | 'out'; reason: string; sentence: string }[];
}

/** RFC 9457. */
export interface ProblemDetails {
  title?: string;
  status?: number;
  detail?: string;
  errors?: unknown[];
}

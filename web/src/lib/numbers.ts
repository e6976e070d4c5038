// Numbers and times as an operator reads them: short, and of one width.

export function clock(time: string | number | Date): string {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? '–' : at.toLocaleTimeString('en-GB', { hour12: false });
}

/** The date too, where it is not today's. */
export function moment(time: string | number | Date, now: number): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return '–';
  const today = new Date(now).toDateString() === at.toDateString();
  if (today) return clock(at);
  const two = (number: number) => String(number).padStart(2, '0');
  return `${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at)}`;
}

/** 850 ms, 1.2 s, 42 s, 3 min 20 s, 5 h 12 min, 3 d 4 h. */
export function span(ms: number): string {
  if (!Number.isFinite(ms)) return '–';
  const whole = Math.max(0, ms);
  if (whole < 1000) return `${Math.round(whole)} ms`;
  if (whole < 10_000) return `${(whole / 1000).toFixed(1)} s`;
  const seconds = Math.round(whole / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return pair(minutes, 'min', seconds % 60, 's');
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return pair(hours, 'h', minutes % 60, 'min');
  return pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

function pair(big: number, unit: string, small: number, smaller: string): string {
  return small === 0 ? `${big} ${unit}` : `${big} ${unit} ${small} ${smaller}`;
}

/** For columns: 0.42 ms, 12 ms, 1.2 s. */
export function latency(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '–';
  if (ms < 10) return `${ms.toFixed(ms < 1 ? 2 : 1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return span(ms);
}

/** 950, 1.2 k, 3.4 M. */
export function count(number: number): string {
  const size = Math.abs(number);
  if (size < 1000) return Number.isInteger(number) || size >= 100 ? String(Math.round(number)) : number.toFixed(1);
  if (size < 1_000_000) return `${(number / 1000).toFixed(size < 10_000 ? 1 : 0)} k`;
  return `${(number / 1_000_000).toFixed(1)} M`;
}

export function bytes(number: number): string {
  if (number < 1024) return `${number} B`;
  if (number < 1024 * 1024) return `${(number / 1024).toFixed(1)} KiB`;
  if (number < 1024 ** 3) return `${(number / 1024 ** 2).toFixed(1)} MiB`;
  return `${(number / 1024 ** 3).toFixed(1)} GiB`;
}

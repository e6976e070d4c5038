// One key each for what an operator does often. While somebody types, keys are letters.

import { act, find } from './act.svelte.ts';
import { place, VIEWS } from './place.svelte.ts';
import { prefs } from './prefs.svelte.ts';

/** What stands in the help, in this order. The words are `keys` in the table of words. */
export const KEYS = [
  ['1 … 7', 'go'],
  ['j  k', 'move'],
  ['Enter', 'open'],
  ['Esc', 'back'],
  ['/', 'filter'],
  ['d', 'drain'],
  ['s', 'serve'],
  ['m', 'maintain'],
  ['w', 'weight'],
  ['p', 'probe'],
  ['t', 'theme'],
  ['l', 'language'],
  ['?', 'help'],
] as const;

function types(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName));
}

/** The backend that keys act on: the one that is open, or whose row has the focus. */
function chosen(): { pool: string; address: string } | null {
  const focused = document.activeElement?.closest<HTMLElement>('[data-pool][data-address]');
  const pool = focused?.dataset['pool'] ?? (place.view === 'pools' ? place.rest[0] : undefined);
  const address = focused?.dataset['address'] ?? (place.view === 'pools' ? place.rest[1] : undefined);
  return pool && address && find(pool, address) ? { pool, address } : null;
}

function move(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>('main [data-row]')].filter((row) => row.offsetParent !== null);
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row === document.activeElement || row.contains(document.activeElement));
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

export function pressed(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (types(event.target)) {
    if (event.key === 'Escape' && event.target instanceof HTMLElement) event.target.blur();
    return;
  }
  if (act.question || act.help || act.token) return;
  const view = VIEWS[Number(event.key) - 1];
  if (view) {
    place.to(view);
    event.preventDefault();
    return;
  }
  const on = chosen();
  switch (event.key) {
    case '?':
      act.help = true;
      break;
    case 'j':
    case 'ArrowDown':
    case 'k':
    case 'ArrowUp': {
      const arrow = event.key.startsWith('Arrow');
      // Arrows scroll, until a row has the focus.
      if (arrow && !document.activeElement?.closest('[data-row]')) return;
      move(event.key === 'j' || event.key === 'ArrowDown' ? 1 : -1);
      break;
    }
    case 'Escape':
      if (act.notice) act.notice = null;
      else if (place.rest.length > 0) place.to(place.view);
      else return;
      break;
    case '/': {
      const filter = document.querySelector<HTMLInputElement>('main input[type="search"]');
      if (!filter) return;
      filter.focus();
      filter.select();
      break;
    }
    case 'd':
    case 's':
    case 'm':
    case 'w': {
      if (!on) return;
      const verb = ({ d: 'drain', s: 'serve', m: 'maintain', w: 'weight' } as const)[event.key];
      act.ask({ what: 'order', verb, ...on });
      break;
    }
    case 'p':
      if (!on) return;
      void act.probe(on.pool, on.address);
      break;
    case 't':
      prefs.turn();
      break;
    case 'l':
      prefs.speak(prefs.language === 'en' ? 'zh' : 'en');
      break;
    default:
      return;
  }
  event.preventDefault();
}

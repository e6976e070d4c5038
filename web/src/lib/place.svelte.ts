// Where in the page one is: the part of the address behind the #. A link to a backend can so be sent to a colleague.

export const VIEWS = ['now', 'pools', 'timeline', 'failures', 'requests', 'rules', 'config'] as const;
export type View = (typeof VIEWS)[number];

function read(): string[] {
  const parts = location.hash.replace(/^#\/?/, '').split('/').filter(Boolean);
  return parts.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}

class Place {
  #parts = $state<string[]>(read());

  constructor() {
    addEventListener('hashchange', () => (this.#parts = read()));
  }

  get view(): View {
    const first = this.#parts[0];
    return VIEWS.find((view) => view === first) ?? 'now';
  }

  get rest(): string[] {
    return this.#parts.slice(1);
  }

  to(...parts: string[]): void {
    location.hash = link(...parts);
  }
}

export function link(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

export const place = new Place();

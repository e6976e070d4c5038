// What the person at this browser chose: language and theme. Kept here, never sent.

export type Language = 'en' | 'zh';
export type Theme = 'system' | 'light' | 'dark';

const LANGUAGE = 'evenkeel.language';
const THEME = 'evenkeel.theme';

function first(): Language {
  const kept = localStorage.getItem(LANGUAGE);
  if (kept === 'en' || kept === 'zh') return kept;
  return navigator.languages.some((name) => name.toLowerCase().startsWith('zh')) && !navigator.language.startsWith('en') ? 'zh' : 'en';
}

function firstTheme(): Theme {
  const kept = localStorage.getItem(THEME);
  return kept === 'light' || kept === 'dark' ? kept : 'system';
}

const dark = matchMedia('(prefers-color-scheme: dark)');

class Prefs {
  language = $state<Language>(first());
  theme = $state<Theme>(firstTheme());
  #systemDark = $state(dark.matches);

  constructor() {
    dark.addEventListener('change', () => (this.#systemDark = dark.matches));
    this.#show();
  }

  get isDark(): boolean {
    return this.theme === 'system' ? this.#systemDark : this.theme === 'dark';
  }

  speak(language: Language): void {
    this.language = language;
    localStorage.setItem(LANGUAGE, language);
    this.#show();
  }

  /** The other of light and dark than what is seen now. */
  turn(): void {
    this.theme = this.isDark ? 'light' : 'dark';
    localStorage.setItem(THEME, this.theme);
    this.#show();
  }

  #show(): void {
    document.documentElement.lang = this.language === 'zh' ? 'zh-CN' : 'en';
    if (this.theme === 'system') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = this.theme;
  }
}

export const prefs = new Prefs();

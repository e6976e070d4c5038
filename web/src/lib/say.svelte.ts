// The words of the language that is chosen now.

import { en, type Words } from '../words/en.ts';
import { zh } from '../words/zh.ts';
import { prefs } from './prefs.svelte.ts';

const tables: Record<'en' | 'zh', Words> = { en, zh };

export const say = {
  get w(): Words {
    return tables[prefs.language];
  },
};

// Builds the page into a folder: one script, one stylesheet, one document, one icon.
//
// Nothing in it depends on the time, the machine or the folder it runs in, so that whoever builds gets the bytes that are
// committed under dist/ (tests/e2e/dashboard.rs compares them). Names are not hashed: the server sends an ETag.
//
//   node build.mjs FOLDER       the page
//   node build.mjs --tests      what test/*.test.ts needs, into out/tests

import { readFile, mkdir, copyFile, rm, readdir } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';
import { compile, compileModule } from 'svelte/compiler';

const here = dirname(fileURLToPath(import.meta.url));

/** Components, and modules with runes, by the compiler of Svelte. */
const svelte = {
  name: 'svelte',
  setup(builder) {
    builder.onLoad({ filter: /\.svelte$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      const { js, css } = compile(source, {
        filename: relative(here, path),
        generate: 'client',
        dev: false,
        css: 'external',
        // Class names follow from the styles and not from where the file lies.
        cssHash: ({ css, hash }) => `s-${hash(css)}`,
      });
      const style = css?.code ? `\nimport ${JSON.stringify(`${path}.css`)};` : '';
      styles.set(`${path}.css`, css?.code ?? '');
      return { contents: js.code + style, loader: 'js', resolveDir: dirname(path) };
    });
    const styles = new Map();
    builder.onResolve({ filter: /\.svelte\.css$/ }, ({ path }) => ({ path, namespace: 'svelte-css' }));
    builder.onLoad({ filter: /.*/, namespace: 'svelte-css' }, ({ path }) => ({ contents: styles.get(path), loader: 'css' }));
    builder.onLoad({ filter: /\.svelte\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      const { code } = await transform(source, { loader: 'ts', target: 'esnext' });
      const { js } = compileModule(code, { filename: relative(here, path), generate: 'client', dev: false });
      return { contents: js.code, loader: 'js', resolveDir: dirname(path) };
    });
  },
};

const shared = {
  absWorkingDir: here,
  bundle: true,
  format: 'esm',
  plugins: [svelte],
  conditions: ['svelte', 'browser', 'production'],
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'warning',
};

async function page(folder) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await build({
    ...shared,
    entryPoints: { app: 'src/main.ts' },
    outdir: folder,
    target: ['chrome109', 'firefox115', 'safari16'],
    minify: true,
    legalComments: 'none',
    charset: 'utf8',
  });
  await copyFile(join(here, 'src/index.html'), join(folder, 'index.html'));
  await copyFile(join(here, 'src/icon.svg'), join(folder, 'icon.svg'));
}

async function tests() {
  const folder = join(here, 'out/tests');
  await rm(folder, { recursive: true, force: true });
  const names = (await readdir(join(here, 'test'))).filter((name) => name.endsWith('.test.ts'));
  await build({
    ...shared,
    entryPoints: names.map((name) => join('test', name)),
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    platform: 'node',
    conditions: ['production'],
  });
}

const wanted = process.argv[2];
if (wanted === '--tests') await tests();
else if (wanted) await page(resolve(wanted));
else {
  process.stderr.write('node build.mjs FOLDER | --tests\n');
  process.exit(2);
}

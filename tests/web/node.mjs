// The real binary in front of real servers, on addresses of its own.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BINARY = process.env.EVENKEEL ?? new URL('../../target/debug/evenkeel', import.meta.url).pathname;

/** A loopback address that no other test uses: the kernel chooses outgoing ports on 127.0.0.1, so a port found here stays free. */
const IP = `127.${120 + (process.pid % 100)}.${1 + (Math.floor(process.pid / 100) % 250)}.7`;

async function freePort() {
  const socket = createSocket();
  await new Promise((resolve) => socket.listen(0, IP, resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

/** A server that says its name, until it is killed. */
export async function backend(name) {
  const make = () =>
    createServer((request, response) => {
      if (request.url.startsWith('/never')) return;
      response.writeHead(request.url.startsWith('/broken') ? 500 : 200, { 'Content-Type': 'text/plain' });
      response.end(`${name}\n`);
    });
  let server = make();
  await new Promise((resolve) => server.listen(0, IP, resolve));
  const { port } = server.address();
  return {
    address: `${IP}:${port}`,
    kill: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
    revive: () => {
      server = make();
      return new Promise((resolve) => server.listen(port, IP, resolve));
    },
  };
}

/** Starts evenkeel. `body` makes the config from the address of its listener. */
export async function start(body) {
  const folder = await mkdtemp(join(tmpdir(), 'evenkeel-web-'));
  const [admin, listen] = [`${IP}:${await freePort()}`, `${IP}:${await freePort()}`];
  const config = join(folder, 'evenkeel.toml');
  const head = `[node]\nworkers = 1\naccess_log = ${JSON.stringify(join(folder, 'access.log'))}\nstate_file = ${JSON.stringify(join(folder, 'state.json'))}\n\n[admin]\nlisten = "${admin}"\n`;
  const write = (text) => writeFile(config, `${head}${text}`);
  await write(body(listen));
  let said = '';
  let child;
  const run = async () => {
    child = spawn(BINARY, ['run', '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    said = '';
    child.stderr.setEncoding('utf8');
    await new Promise((resolve, reject) => {
      child.stderr.on('data', (text) => {
        said += text;
        if (said.includes(' node.started ')) resolve();
      });
      child.on('exit', (code) => reject(new Error(`evenkeel ended with ${code}:\n${said}`)));
    });
  };
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  };
  await run();
  return {
    url: `http://${admin}/`,
    listen,
    config,
    write: (text) => write(text(listen)),
    get: async (path, headers = {}) => (await fetch(`http://${listen}${path}`, { headers })).status,
    status: async () => (await fetch(`http://${admin}/api/v1/status`)).json(),
    events: () => said,
    run,
    stop,
    end: async () => {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

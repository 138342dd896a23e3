// sockjs-client under Node: `node client.js URL TRANSPORT PARTIES`, the last as the scenario takes it, in JSON. Each line that it
// writes is news in JSON: `ask`, what the back end is to do, after which a line on its standard input says that it is done; and
// at the end `measured`. What goes wrong ends it with status 1.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import SockJS from 'sockjs-client';
import { run } from './scenario.js';

const [url, transport, parties] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin });

async function ask(what) {
  const done = once(lines, 'line');
  console.log(JSON.stringify({ ask: what }));
  await done;
}

const measured = await run({ SockJS, url, transport }, JSON.parse(parties), ask);
console.log(JSON.stringify({ measured }));
process.exit(0);

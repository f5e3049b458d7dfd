/**
 * Runs in the namespace of the API server and asks it what `api.ts` says: a process of its own, so that what an answer's time says is not
 * what else the benchmark does. One HTTP/2 connection at a time.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type ClientHttp2Session } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiRequest, Call, Answer, Paced, Timed } from './api.ts';

interface Kubeconfig {
  readonly clusters: readonly [
    { readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } },
  ];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

const kubeconfig = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Kubeconfig;
const { cluster } = kubeconfig.clusters[0];
const { token } = kubeconfig.users[0].user;
const connected = (): ClientHttp2Session =>
  connect(cluster.server, { ca: Buffer.from(cluster['certificate-authority-data'], 'base64') });
let current = connected();
/** The server ends a connection on which nothing has happened for 90 s. */
function session(): ClientHttp2Session {
  if (current.closed || current.destroyed) current = connected();
  return current;
}

const nowNs = (): number => Number(process.hrtime.bigint());

/** Resolves when the answer is there whole; its time is that of its head. Anything but 2xx is an error. */
function ask({
  method,
  path,
  body,
  type = 'application/json',
}: ApiRequest): Promise<Timed & { readonly text: string }> {
  return new Promise((resolve, reject) => {
    const sentNs = nowNs();
    let answeredNs = Number.NaN;
    let status = 0;
    let text = '';
    const stream = session().request({
      ':method': method,
      ':path': path,
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': type }),
    });
    stream.setEncoding('utf8');
    stream.on('response', (headers) => {
      answeredNs = nowNs();
      status = Number(headers[':status']);
    });
    stream.on('data', (chunk: string) => (text += chunk));
    stream.on('error', reject);
    stream.on('end', () => {
      if (status >= 200 && status < 300) resolve({ sentNs, answeredNs, text });
      else reject(new Error(`${method} ${path}: ${status}: ${text}`));
    });
    stream.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Each chain in its order, so many chains at a time. */
async function all(chains: readonly (readonly ApiRequest[])[], width: number): Promise<void> {
  const left = chains.values();
  const worker = async () => {
    for (const chain of left) for (const request of chain) await ask(request);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** One after the other at even distances, whether the one before is answered or not. */
async function paced(requests: readonly ApiRequest[], perSecond: number): Promise<Paced> {
  const began = performance.now();
  const answers: Promise<Timed>[] = [];
  let failure: unknown;
  for (const [index, request] of requests.entries()) {
    await sleep(Math.max(0, began + (index * 1000) / perSecond - performance.now()));
    const answer = ask(request);
    answer.catch((error: unknown) => (failure ??= error));
    answers.push(answer);
    if (failure !== undefined) break;
  }
  const times = await Promise.all(answers);
  return {
    seconds: (performance.now() - began) / 1000,
    answerMs: times.map(({ sentNs, answeredNs }) => (answeredNs - sentNs) / 1e6),
  };
}

/** Follows a collection from now on and says when it hears of an object of that name. */
async function hear(path: string): Promise<void> {
  const { text } = await ask({ method: 'GET', path: `${path}?limit=1` });
  const { metadata } = JSON.parse(text) as { metadata: { resourceVersion: string } };
  const stream = session().request({
    ':path': `${path}?watch=true&resourceVersion=${metadata.resourceVersion}`,
    authorization: `Bearer ${token}`,
  });
  stream.setEncoding('utf8');
  let rest = '';
  stream.on('data', (chunk: string) => {
    const heardNs = nowNs();
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const { object } = JSON.parse(line) as { object: { metadata: { name: string; resourceVersion: string } } };
      process.send?.({ heard: { ns: heardNs, version: object.metadata.resourceVersion } });
    }
  });
}

/** So many connections with a watch each, of which nothing is read but bytes. */
async function crowd(path: string, count: number): Promise<void> {
  const opened = Array.from({ length: count }, async () => {
    const one = connected();
    const stream = one.request({ ':path': `${path}?watch=true`, authorization: `Bearer ${token}` });
    stream.resume();
    await once(stream, 'response');
  });
  await Promise.all(opened);
}

async function answer(call: Call): Promise<unknown> {
  switch (call.what) {
    case 'ask':
      return ask(call.request);
    case 'all':
      return all(call.chains, call.width);
    case 'paced':
      return paced(call.requests, call.perSecond);
    case 'hear':
      return hear(call.path);
    case 'crowd':
      return crowd(call.path, call.count);
  }
}

process.on('message', (call: Call) => {
  void answer(call).then(
    (value) => process.send?.({ id: call.id, value } satisfies Answer),
    (error: unknown) => process.send?.({ id: call.id, error: String(error) } satisfies Answer),
  );
});
process.on('disconnect', () => process.exit());

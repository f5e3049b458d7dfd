import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Log } from '../log.ts';
import { RootSocket } from '../root-socket.ts';

/** Answers by path, given the query; what is thrown becomes a 500 with the message (400 when its code says that the question is wrong). */
export type AdminRoutes = Readonly<Record<string, (query: URLSearchParams) => unknown>>;

/**
 * Answers without an end, as a line of JSON for each item, until they end by themselves or who asked goes (then the iteration is left). What is
 * thrown before the first item is answered as in a route; after that it is the last line, `{"error": ...}`.
 */
export type AdminStreams = Readonly<Record<string, (query: URLSearchParams) => AsyncIterable<object>>>;

/** The question is wrong, not the agent. */
const questionCodes: ReadonlySet<unknown> = new Set(['bad-request', 'unknown-party']);

/** The socket's name in the run dir. */
export const adminSocketName = 'admin.sock';

/** HTTP on a unix socket that only root may use: what the command line asks of a running agent (GET), and what it has it do (POST). */
export class AdminServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #socket: RootSocket;

  constructor(runDir: string, routes: AdminRoutes, log: Log, actions: AdminRoutes = {}, streams: AdminStreams = {}) {
    const byMethod = { GET: routes, POST: actions };
    this.#server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://agent');
      const stream = request.method === 'GET' && Object.hasOwn(streams, pathname) ? streams[pathname] : undefined;
      void (stream === undefined
        ? answer(byMethod, request, response)
        : answerAsItComes(stream, searchParams, response));
    });
    this.#socket = new RootSocket(this.#server, join(runDir, adminSocketName), log);
  }

  async listen(): Promise<void> {
    await this.#socket.listen();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await this.#socket.close();
  }
}

async function answer(
  byMethod: Readonly<Record<'GET' | 'POST', AdminRoutes>>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://agent');
  const { method } = request;
  const routes = method === 'GET' || method === 'POST' ? byMethod[method] : {};
  const route = Object.hasOwn(routes, pathname) ? routes[pathname] : undefined;
  if (route === undefined) {
    send(response, 404, { error: `no such request: ${request.method} ${request.url}` });
    return;
  }
  try {
    send(response, 200, await route(searchParams));
  } catch (error) {
    sendError(response, error);
  }
}

/** Waits where the reader is slower than the items come. */
async function answerAsItComes(
  stream: AdminStreams[string],
  query: URLSearchParams,
  response: ServerResponse,
): Promise<void> {
  let items: AsyncIterator<object>;
  try {
    items = stream(query)[Symbol.asyncIterator]();
  } catch (error) {
    sendError(response, error);
    return;
  }
  const gone = new Promise<undefined>((resolve) => response.once('close', () => resolve(undefined)));
  response.on('error', () => response.destroy());
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  try {
    for (;;) {
      const item = await Promise.race([items.next(), gone]);
      if (item === undefined || item.done === true) break;
      if (response.write(`${JSON.stringify(item.value)}\n`)) continue;
      await Promise.race([new Promise((resolve) => response.once('drain', resolve)), gone]);
    }
  } catch (error) {
    response.write(`${JSON.stringify({ error: wordsOf(error) })}\n`);
  }
  response.end();
  await items.return?.();
}

function sendError(response: ServerResponse, error: unknown): void {
  const isQuestion = questionCodes.has((error as { readonly code?: unknown } | undefined)?.code);
  send(response, isQuestion ? 400 : 500, { error: wordsOf(error) });
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { adminSocketName } from './server.ts';

/** The agent could not be asked, or refused. `code` is the system's (`ENOENT`, `ECONNREFUSED`) or `refused`. */
export class AdminError extends Error {
  override readonly name = 'AdminError';
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** How long an answer may take, in ms. */
const timeoutMs = 10_000;

/** Asks the agent whose run dir this is. The answer's shape is the route's own. */
export function askAgent(runDir: string, path: string): Promise<unknown> {
  return call(runDir, 'GET', path);
}

/** Has the agent do something, which changes more than what it says. */
export function tellAgent(runDir: string, path: string): Promise<unknown> {
  return call(runDir, 'POST', path);
}

/** The lines of an answer without an end, each as it comes; leaving the loop tells the agent that nobody listens any more. */
export async function* followAgent(runDir: string, path: string): AsyncGenerator<unknown, void, undefined> {
  const response = await open(runDir, path);
  let rest = '';
  try {
    response.setEncoding('utf8');
    for await (const text of response as AsyncIterable<string>) {
      const lines = `${rest}${text}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const item = JSON.parse(line) as { readonly error?: string };
        if (item.error !== undefined) throw new AdminError('refused', item.error);
        yield item;
      }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    throw new AdminError('ECONNRESET', 'the agent has stopped', { cause: error });
  } finally {
    response.destroy();
  }
}

/** The response, once the agent has agreed. */
function open(runDir: string, path: string): Promise<IncomingMessage> {
  const socketPath = join(runDir, adminSocketName);
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path }, (response) => {
      if (response.statusCode === 200) resolve(response);
      else void textOf(response).then((text) => reject(refusal(socketPath, response, text)), reject);
    });
    call.on('error', (error: NodeJS.ErrnoException) => reject(unreachable(socketPath, error)));
    call.end();
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function call(runDir: string, method: 'GET' | 'POST', path: string): Promise<unknown> {
  const socketPath = join(runDir, adminSocketName);
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method, timeout: timeoutMs }, (response) => {
      textOf(response).then((text) => {
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(refusal(socketPath, response, text));
      }, reject);
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    call.on('error', (error: NodeJS.ErrnoException) => reject(unreachable(socketPath, error)));
    call.end();
  });
}

function refusal(socketPath: string, { statusCode }: IncomingMessage, text: string): AdminError {
  if (statusCode === 400) return new AdminError('refused', errorIn(text));
  return new AdminError('refused', `the agent at ${socketPath} answered ${statusCode}: ${text.trim()}`);
}

function unreachable(socketPath: string, error: NodeJS.ErrnoException): AdminError {
  return new AdminError(
    error.code ?? 'failed',
    `can't ask the agent at ${socketPath}: ${error.message}. Is it running on this node? (tortie agent; --run-dir says where)`,
    { cause: error },
  );
}

/** The agent's own words about a question that it can't answer. */
function errorIn(text: string): string {
  return (JSON.parse(text) as { readonly error: string }).error;
}

/** True when nobody listens there. */
export function isAgentAbsent(error: unknown): boolean {
  return error instanceof AdminError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');
}

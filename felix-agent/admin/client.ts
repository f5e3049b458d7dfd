import { request } from 'node:http';
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

function call(runDir: string, method: 'GET' | 'POST', path: string): Promise<unknown> {
  const socketPath = join(runDir, adminSocketName);
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else if (response.statusCode === 400) reject(new AdminError('refused', errorIn(text)));
        else
          reject(
            new AdminError('refused', `the agent at ${socketPath} answered ${response.statusCode}: ${text.trim()}`),
          );
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    call.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        new AdminError(
          error.code ?? 'failed',
          `can't ask the agent at ${socketPath}: ${error.message}. Is it running on this node? (tortie agent; --run-dir says where)`,
          { cause: error },
        ),
      ),
    );
    call.end();
  });
}

/** The agent's own words about a question that it can't answer. */
function errorIn(text: string): string {
  return (JSON.parse(text) as { readonly error: string }).error;
}

/** True when nobody listens there. */
export function isAgentAbsent(error: unknown): boolean {
  return error instanceof AdminError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');
}

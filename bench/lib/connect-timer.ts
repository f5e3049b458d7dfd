import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from '#test/lab/exec.ts';

const source = fileURLToPath(new URL('../connect-timer.c', import.meta.url));
const program = fileURLToPath(new URL('../../build/bench/connect-timer', import.meta.url));

/** Compiles the timer. */
export async function buildConnectTimer(): Promise<void> {
  mkdirSync(join(program, '..'), { recursive: true });
  await must('gcc', '-O2', '-o', program, source);
}

/** A server that accepts and closes, in a network namespace, until it is disposed of. */
export async function connectServer(netnsPath: string, port: number): Promise<Disposable> {
  const child = spawn('nsenter', [`--net=${netnsPath}`, program, 'serve', String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', (status) => reject(new Error(`connect-timer serve ended with status ${status ?? 'none'}`)));
  });
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

/** Connects `count` times, one after the other; the time of each in microseconds. */
export async function timeConnects(
  netnsPath: string,
  address: string,
  port: number,
  count: number,
): Promise<readonly number[]> {
  const output = await must('nsenter', `--net=${netnsPath}`, program, 'connect', address, String(port), String(count));
  return output.trim().split('\n').map(Number);
}

import { runCommandLine } from './cli/run.ts';

/** The program: runs the command line of this process and leaves its status as the process' exit code. `start.ts` calls it. */
export async function main(): Promise<void> {
  // `tortie ... | head`: the reader has seen enough, and that is no failure of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });

  process.exitCode = await runCommandLine(process.argv.slice(2), process.env, {
    out: (text) => process.stdout.write(`${text}\n`),
    err: (text) => process.stderr.write(`${text}\n`),
  });
}

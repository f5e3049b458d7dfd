import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from '#test/lab/exec.ts';

/** One command to measure. */
export interface Job {
  readonly program: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

/** One measured command. Times in ms. */
export interface Timing {
  readonly wallMs: number;
  readonly cpuMs: number;
}

const source = fileURLToPath(new URL('../exec-timer.c', import.meta.url));
const program = fileURLToPath(new URL('../../build/bench/exec-timer', import.meta.url));
let built = false;

/** Runs the jobs, `concurrency` at a time, in a network namespace; every one must succeed. `totalMs` is from first start to last end. */
export async function timeJobs(
  dir: string,
  netns: string,
  jobs: readonly Job[],
  concurrency: number,
): Promise<{ readonly timings: readonly Timing[]; readonly totalMs: number }> {
  if (!built) {
    mkdirSync(join(program, '..'), { recursive: true });
    await must('gcc', '-O2', '-o', program, source);
    built = true;
  }
  const dirs = jobs.map((job, index) => {
    const jobDir = join(dir, `job${index}`);
    mkdirSync(jobDir, { recursive: true });
    writeFileSync(join(jobDir, 'argv0'), job.program);
    writeFileSync(
      join(jobDir, 'env'),
      Object.entries(job.env)
        .map(([name, value]) => `${name}=${value}`)
        .join('\n'),
    );
    writeFileSync(join(jobDir, 'stdin'), job.stdin);
    return jobDir;
  });
  const list = join(dir, 'jobs');
  writeFileSync(list, `${dirs.join('\n')}\n`);
  const output = await must('nsenter', `--net=/run/netns/${netns}`, program, String(concurrency), list);
  const [total, ...lines] = output.trim().split('\n').toReversed();
  const timings = lines.map((line) => {
    const [jobDir, wallUs, cpuUs, status] = line.split(' ');
    if (status !== '0') throw new Error(`${jobDir}: status ${status} (see stdout there)`);
    return { wallMs: Number(wallUs) / 1000, cpuMs: Number(cpuUs) / 1000 };
  });
  return { timings, totalMs: Number(total?.split(' ')[1]) / 1000 };
}

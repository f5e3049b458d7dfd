import { join } from 'node:path';
import { distDir } from '#test/lab/dist.ts';
import { exec } from '#test/lab/exec.ts';
import type { LabNode } from '#test/lab/lab-node.ts';

/** What an HTTP endpoint of a node answers. */
export interface HttpAnswer {
  /** 0: nobody listens. */
  readonly status: number;
  readonly text: string;
}

/** Asks inside the node's namespace, as kubelet and Prometheus do. `at`: `PORT/PATH`. */
export async function getFrom(node: LabNode, at: string): Promise<HttpAnswer> {
  const program = `
    const ask = async () => {
      const answer = await fetch('http://localhost:${at}');
      return { status: answer.status, text: await answer.text() };
    };
    console.log(JSON.stringify(await ask().catch(() => ({ status: 0, text: '' }))));`;
  const { stdout } = await exec('nsenter', [
    `--net=${node.netnsPath}`,
    join(distDir, 'bin/node'),
    '--input-type=module',
    '-e',
    program,
  ]);
  return JSON.parse(stdout) as HttpAnswer;
}

/** A scrape: values by name with labels, as Prometheus reads them. */
export async function scrape(node: LabNode): Promise<Readonly<Record<string, number>>> {
  const { status, text } = await getFrom(node, '9091/metrics');
  if (status !== 200) throw new Error(`${node.name}: /metrics answered ${status}: ${text}\n${node.logTail()}`);
  return Object.fromEntries(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line): [string, number] => {
        const at = line.lastIndexOf(' ');
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
  );
}

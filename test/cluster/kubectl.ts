import { exec, type Finished } from '../lab/exec.ts';
import { kubernetesProgram } from './binaries.ts';

/** kubectl with one kubeconfig, from one network namespace. */
export class Kubectl {
  readonly kubeconfig: string;
  readonly #netns: string | undefined;

  /** `netns`: path of the namespace to run in; the machine's own if absent. */
  constructor(kubeconfig: string, netns?: string) {
    this.kubeconfig = kubeconfig;
    this.#netns = netns;
  }

  /** Runs it to its end; does not throw on a bad status. `input` is a text, or objects as a list. */
  async try(args: readonly string[], input?: string | readonly object[], timeoutMs = 300_000): Promise<Finished> {
    const kubectl = [await kubernetesProgram('kubectl'), `--kubeconfig=${this.kubeconfig}`];
    const [file = '', ...rest] = this.#netns === undefined ? kubectl : ['nsenter', `--net=${this.#netns}`, ...kubectl];
    const text =
      input === undefined || typeof input === 'string'
        ? input
        : JSON.stringify({ apiVersion: 'v1', kind: 'List', items: input });
    return exec(file, [...rest, ...args], { timeoutMs, ...(text === undefined ? {} : { input: text }) });
  }

  /** Must succeed; returns what it printed. */
  async run(...args: string[]): Promise<string> {
    return printed(args, await this.try(args));
  }

  /** `kubectl ... -o json`, parsed. */
  async json<Result>(...args: string[]): Promise<Result> {
    return JSON.parse(await this.run(...args, '-o', 'json')) as Result;
  }

  /** `kubectl apply -f -` of YAML or of objects. */
  async apply(manifests: string | readonly object[]): Promise<string> {
    const args = ['apply', '-f', '-'];
    return printed(args, await this.try(args, manifests));
  }
}

function printed(args: readonly string[], { status, stdout, stderr }: Finished): string {
  if (status !== 0) {
    throw new Error(`kubectl ${args.join(' ')}: status ${String(status)}: ${stderr.trim() || stdout.trim()}`);
  }
  return stdout;
}

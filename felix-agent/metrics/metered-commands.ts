import type { CommandResult, CommandRunner } from '#native/command-runner.ts';
import type { Metrics } from './metrics.ts';

/** Counts what other programs cost: how often each ran, how long, how often it failed. */
export class MeteredCommands implements CommandRunner {
  readonly #inner: CommandRunner;
  readonly #metrics: Metrics;

  constructor(inner: CommandRunner, metrics: Metrics) {
    this.#inner = inner;
    this.#metrics = metrics;
  }

  async run(...[file, args, options]: Parameters<CommandRunner['run']>): Promise<CommandResult> {
    const began = performance.now();
    const process = file.slice(file.lastIndexOf('/') + 1);
    const which = /^ip6?tables-\w+-(restore|save)$/.exec(process)?.[1] as 'restore' | 'save' | undefined;
    if (which !== undefined) this.#metrics.add(`felix_iptables_${which}_calls`);
    let failed = true;
    try {
      const result = await this.#inner.run(file, args, options);
      failed = result.status !== 0;
      return result;
    } finally {
      if (failed && which !== undefined) this.#metrics.add(`felix_iptables_${which}_errors`);
      this.#metrics.observe('felix_exec_time_micros', (performance.now() - began) * 1000, { fork: 'true', process });
    }
  }
}

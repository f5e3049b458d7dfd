import { readdirSync, readFileSync } from 'node:fs';
import { must } from '../test/lab/exec.ts';

/** What on the machine could be left over by Tortie: names only, so that two readings can be compared. */
export class MachineState {
  readonly #items: ReadonlySet<string>;

  private constructor(items: ReadonlySet<string>) {
    this.#items = items;
  }

  static async read(): Promise<MachineState> {
    const items = new Set<string>();
    for (const line of (await must('ip', '-o', 'link')).split('\n')) {
      const name = /^\d+: ([^:@]+)/.exec(line)?.[1];
      if (name !== undefined) items.add(`link ${name}`);
    }
    for (const line of (await must('ip', 'netns', 'list')).split('\n')) {
      if (line !== '') items.add(`network namespace ${line.split(' ')[0]}`);
    }
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
      const path = line.split(' ')[4];
      if (path !== undefined) items.add(`mount ${path}`);
    }
    for (const save of ['iptables-save', 'ip6tables-save']) {
      for (const line of (await must(save)).split('\n')) {
        if (line.includes('cali')) items.add(`${save} rule ${line}`);
      }
    }
    for (const name of readdirSync('/tmp')) {
      if (name.startsWith('tortie-')) items.add(`directory /tmp/${name}`);
    }
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const command = commandLine(pid);
      if (command.includes('tortie.mjs') || command.includes('lab/peer.ts')) items.add(`process ${pid} ${command}`);
    }
    return new MachineState(items);
  }

  /** What is here that wasn't in `before`. */
  beyond(before: MachineState): readonly string[] {
    return [...this.#items].filter((item) => !before.#items.has(item));
  }
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return ''; // The process ended between listing and reading.
  }
}

import { readdirSync, readFileSync } from 'node:fs';
import { must } from '../test/lab/exec.ts';

/**
 * What on the machine could be left over by this run: names only, so that two readings can be compared. Everything that a lab makes has
 * `tt<pid>` in its name; in the machine's own namespace a lab makes nothing, so there links and rules are compared whole.
 */
export class MachineState {
  readonly #items: ReadonlySet<string>;

  private constructor(items: ReadonlySet<string>) {
    this.#items = items;
  }

  static async read(): Promise<MachineState> {
    const own = `tt${process.pid}-`;
    const items = new Set<string>();
    for (const line of (await must('ip', '-o', 'link')).split('\n')) {
      const name = /^\d+: ([^:@]+)/.exec(line)?.[1];
      if (name?.startsWith('cali') === true) items.add(`link ${name}`);
    }
    for (const name of listed('/run/netns', own)) items.add(`network namespace ${name}`);
    for (const name of listed('/tmp', own)) items.add(`directory /tmp/${name}`);
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
      const path = line.split(' ')[4];
      if (path?.includes(own) === true) items.add(`mount ${path}`);
    }
    for (const save of ['iptables-save', 'ip6tables-save']) {
      for (const line of (await must(save)).split('\n')) {
        if (line.includes('cali')) items.add(`${save}: ${line}`);
      }
    }
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const command = commandLine(pid);
      if (command.includes(own)) items.add(`process ${pid} ${command}`);
    }
    return new MachineState(items);
  }

  /** What is here that wasn't in `before`. */
  beyond(before: MachineState): readonly string[] {
    return [...this.#items].filter((item) => !before.#items.has(item));
  }
}

/** Entries of a directory with this text in their name; none when there is no such directory. */
function listed(dir: string, text: string): readonly string[] {
  try {
    return readdirSync(dir).filter((name) => name.includes(text));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return ''; // The process ended between listing and reading.
  }
}

import type { RunningStream } from '#test/lab/peer-client.ts';
import { exec } from '#test/lab/exec.ts';
import { senderOf } from './ask.ts';
import type { Bed } from './bed.ts';
import { differences } from './expect.ts';
import { questionsOf } from './line.ts';
import type { Action, Expectation, Family, Objects, Row } from './row.ts';

export const bothFamilies = ['IPv4', 'IPv6'] as const;

/** By family: what went wrong, or undefined. */
export type RowResult = Readonly<Record<Family, Error | undefined>>;

/** A message on each running connection, so often in ms. */
const flowMs = 20;

/**
 * Runs one row once, looking at both families at the same time: what is done is the same for both, and a dual-stack cluster is what it
 * is done to. Never rejects; leaves the bed as it was, or says in the result what could not be taken back.
 */
export async function runRow(bed: Bed, row: Row): Promise<RowResult> {
  const run = new RowRun(bed);
  try {
    if (row.given !== undefined) await run.do([{ apply: row.given }]);
    for (const [index, phase] of row.phases.entries()) {
      if (phase.do !== undefined) await run.do(phase.do);
      const { expect } = phase;
      if (expect !== undefined) {
        await run.expect(`phase ${index + 1}`, (family) => (typeof expect === 'function' ? expect(family) : expect));
      }
    }
  } catch (error) {
    run.failAll(error);
  }
  await bed.endRow().catch((error: unknown) => run.failAll(error));
  return run.result();
}

class RowRun {
  readonly #bed: Bed;
  readonly #failures = new Map<Family, Error>();
  readonly #flows = new Map<string, RunningStream>();

  constructor(bed: Bed) {
    this.#bed = bed;
  }

  /** All of them; resolves when they are in force. */
  async do(actions: readonly Action[]): Promise<void> {
    for (const action of actions) await this.#one(action);
    await this.#bed.inForce.reached();
  }

  /** Families that failed before are left out: one cause is told once. */
  async expect(when: string, of: (family: Family) => Expectation): Promise<void> {
    const families = bothFamilies.filter((family) => !this.#failures.has(family));
    await Promise.all(
      families.map(async (family) => {
        const answers = async (name: string) => (await this.#flow(name, family).progress()).answered;
        const wrong = await differences(this.#bed, of(family), family, answers);
        if (wrong.length > 0) this.#failures.set(family, new Error(this.#explained(`${when}:\n${wrong.join('\n')}`)));
      }),
    );
  }

  failAll(error: unknown): void {
    const words = this.#explained(error instanceof Error ? error.message : String(error));
    for (const family of bothFamilies) {
      if (!this.#failures.has(family)) this.#failures.set(family, new Error(words, { cause: error }));
    }
  }

  result(): RowResult {
    return { IPv4: this.#failures.get('IPv4'), IPv6: this.#failures.get('IPv6') };
  }

  #explained(words: string): string {
    return [words, ...this.#bed.lab.nodes.map((node) => `${node.name}'s log ends with:\n${node.logTail()}`)].join('\n');
  }

  #flow(name: string, family: Family): RunningStream {
    const flow = this.#flows.get(`${name} ${family}`);
    if (flow === undefined) throw new Error(`the row has opened no flow ${name}`);
    return flow;
  }

  async #one(action: Action): Promise<void> {
    const bed = this.#bed;
    if ('apply' in action) return bed.inForce.change(this.#objects(action.apply));
    if ('remove' in action) return bed.inForce.change([], action.remove);
    if ('configure' in action) {
      bed.onRowEnd(async () => bed.configure());
      return bed.configure(action.configure);
    }
    if ('relabel' in action) {
      const pod = bed.pod(action.relabel);
      bed.onRowEnd(async () => pod.relabel());
      pod.relabel(action.labels);
      // The pod stands in a file of its own: a change that comes after it tells when it is in force.
      return bed.inForce.change([]);
    }
    if ('flow' in action) return this.#open(action.flow, action.line);
    if ('address' in action) return this.#giveAddress(action.address, action.of);
    if ('kill' in action) {
      const node = bed.node(action.kill);
      bed.onRowEnd(async () => node.agentPid ?? node.startAgent());
      return node.killAgent();
    }
    if ('start' in action) return this.#start(action.start, action.variant === 'other');
    if ('shell' in action) {
      if (action.undo !== undefined) bed.onRowEnd(() => this.#shell(action.on, action.undo ?? ''));
      return this.#shell(action.on, action.shell);
    }
    if ('sabotage' in action) {
      for (const [deed, script] of Object.entries(bed.combination.sabotage)) {
        await this.#shell(action.sabotage, script);
        await this.expect(deed, () => action.until);
      }
      return undefined;
    }
    return action.run(bed);
  }

  #objects(objects: Objects) {
    if (typeof objects !== 'function') return objects;
    return objects(this.#bed.addresses('IPv4'), this.#bed.addresses('IPv6'));
  }

  async #open(name: string, line: string): Promise<void> {
    const [question, ...more] = questionsOf(line);
    if (question === undefined || more.length > 0) throw new Error(`${line} is not one flow`);
    const { from, to, destination, protocol, number: port } = question;
    if (protocol !== 'tcp' && protocol !== 'udp') throw new Error(`${line}: flows are TCP or UDP`);
    const peer = await this.#bed.peer(from);
    for (const family of bothFamilies) {
      const address = (owner: string) => this.#bed.addresses(family)[owner] ?? '';
      const host = address(destination ?? to);
      const stream = await peer.stream(host, flowMs, {
        protocol,
        ...(port === undefined ? {} : { port }),
        ...senderOf(question, address),
      });
      this.#bed.onRowEnd(() => stream.stop());
      this.#flows.set(`${name} ${family}`, stream);
    }
  }

  /** Both families, so that what is sent from it has a source. */
  async #giveAddress(name: string, of: string): Promise<void> {
    const pod = this.#bed.pod(name);
    const node = pod.netns;
    for (const family of bothFamilies) {
      const net = `${this.#bed.addresses(family)[of]}/${family === 'IPv4' ? 32 : 128}`;
      // Nothing that doesn't ask for it is sent from it: deprecated addresses are no default (RFC 6724).
      const nodad = family === 'IPv4' ? [] : ['nodad', 'preferred_lft', '0'];
      await run('ip', ['-n', node, 'addr', 'add', net, 'dev', 'eth0', ...nodad]);
      this.#bed.onRowEnd(() => run('ip', ['-n', node, 'addr', 'del', net, 'dev', 'eth0']));
    }
  }

  async #start(name: string, other: boolean): Promise<void> {
    const node = this.#bed.node(name);
    const { otherVariant = {} } = this.#bed.combination;
    if (other) {
      this.#bed.onRowEnd(async () => {
        await node.stopAgent();
        await node.startAgent();
      });
    }
    await node.startAgent({ env: other ? otherVariant : {} });
  }

  async #shell(name: string, script: string): Promise<void> {
    const { iptables } = this.#bed.combination;
    const variables: Record<string, string> = { IPTABLES: iptables, IP6TABLES: iptables.replace('ip', 'ip6') };
    for (const family of bothFamilies) {
      for (const [owner, address] of Object.entries(this.#bed.addresses(family))) {
        variables[`${owner.toUpperCase().replaceAll('-', '_')}${family.slice(-1)}`] = address;
      }
    }
    await run('nsenter', [`--net=${this.#bed.node(name).netnsPath}`, 'sh', '-ec', script], variables);
  }
}

async function run(file: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<void> {
  const { status, stderr } = await exec(file, args, { env });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: status ${status}: ${stderr.trim()}`);
}

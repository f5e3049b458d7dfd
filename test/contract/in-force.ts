import { eventually } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { globalPolicy, tier } from './objects.ts';
import type { Manifest } from './row.ts';

/** Ports that nobody serves: this one is never closed by policy, the ones above it are, one after the other. */
const openPort = 1000;
/** No answer for so long is none, where an answer takes a tenth of a millisecond; in ms. */
const silenceMs = 100;

/**
 * The objects of the present row, and the knowledge when they are in force. With each change a policy comes (and with each removal one
 * goes) that closes a port of two watchers on each node to each other, in a tier of its own before all others. Both stand in one file
 * with the row's objects, so that an agent that has programmed the one has read the other: what "changes nothing" is looked at after it could have.
 */
export class InForce {
  readonly #lab: Lab;
  readonly #enforcesPolicy: boolean;
  readonly #objects = new Map<string, Manifest>();
  readonly #watchers: (readonly [LabNode, LabPod, LabPod])[] = [];
  #closed: number[] = [];
  #changes = 0;
  #isClear = true;

  constructor(lab: Lab, enforcesPolicy: boolean) {
    this.#lab = lab;
    this.#enforcesPolicy = enforcesPolicy;
  }

  /** The watchers, and the tier. */
  async start(): Promise<void> {
    if (!this.#enforcesPolicy) return;
    const everything = { selector: "watcher == 'yes'", types: ['Ingress', 'Egress'] };
    this.#lab.apply('watchers', [
      tier('watchers', { order: 0, defaultAction: 'Deny' }),
      globalPolicy('watchers.open', {
        ...everything,
        tier: 'watchers',
        order: 2,
        ingress: [{ action: 'Allow' }],
        egress: [{ action: 'Allow' }],
      }),
    ]);
    await Promise.all(
      this.#lab.nodes.map(async (node, index) => {
        const [one, two] = await Promise.all(
          ['a', 'b'].map(async (letter) => {
            const pod = await node.createPod(`watcher${index + 1}${letter}`, { labels: { watcher: 'yes' } });
            await Promise.all([pod.add(), pod.peer()]);
            return pod;
          }),
        );
        if (one !== undefined && two !== undefined) this.#watchers.push([node, one, two]);
      }),
    );
  }

  /** Adds or replaces these objects and removes those named (`name` or `namespace/name`). Not in force yet. */
  change(applied: readonly Manifest[], removed: readonly string[] = []): void {
    for (const object of applied) this.#objects.set(keyOf(object), object);
    for (const name of removed) {
      const key = [...this.#objects.keys()].find((candidate) => candidate.endsWith(` ${name}`));
      if (key === undefined) throw new Error(`the row has applied no ${name}`);
      this.#objects.delete(key);
    }
    // What is missing from a file counts as removed only after a while: so the port that must open is missing, too.
    this.#write(removed.length > 0 ? [] : this.#closed);
  }

  /** Nothing of the row is there any more; resolves when that is in force. */
  async clear(): Promise<void> {
    this.#objects.clear();
    if (this.#isClear) return;
    this.#write([]);
    await this.reached();
    this.#isClear = true;
  }

  /** Resolves when every agent that runs enforces what was written last. */
  async reached(): Promise<void> {
    if (!this.#enforcesPolicy || this.#isClear) return;
    const running = this.#watchers.filter(([node]) => node.agentPid !== undefined);
    await Promise.all(
      running.map(([node, from, to]) =>
        eventually(
          async () => (await Promise.all(to.addresses.map((address) => this.#isReached(from, address)))).every(Boolean),
          () => `${node.name} does not enforce change ${this.#changes} of the row\n${node.logTail()}`,
          60_000,
        ),
      ),
    );
  }

  async #isReached(from: LabPod, address: string): Promise<boolean> {
    const peer = await from.peer();
    const answers = async (port: number) =>
      (await peer.probe(address, { port, timeoutMs: silenceMs })).verdict === 'refused';
    const [newest] = this.#closed.slice(-1);
    const opened = this.#changes - this.#closed.length; // All before the oldest that is still closed.
    const [open, old, closed] = await Promise.all([
      answers(openPort),
      answers(openPort + opened),
      answers(openPort + (newest ?? 0)),
    ]);
    return open && old && !closed;
  }

  #write(closed: readonly number[]): void {
    this.#isClear = false;
    this.#changes += 1;
    this.#closed = [...closed, this.#changes];
    const holds = this.#closed.map((change) =>
      globalPolicy(`watchers.close-${change}`, {
        tier: 'watchers',
        order: 1,
        selector: "watcher == 'yes'",
        types: ['Ingress'],
        ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [openPort + change] } }],
      }),
    );
    this.#lab.apply('row', [...this.#objects.values(), ...(this.#enforcesPolicy ? holds : [])]);
  }
}

function keyOf({ apiVersion, kind, metadata: { name, namespace } }: Manifest): string {
  return `${apiVersion} ${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

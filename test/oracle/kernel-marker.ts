import { eventually } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import type { Doc } from './cluster.ts';

const v3 = 'projectcalico.org/v3';
/** Nobody serves from here on: a reset says that the question arrived. */
const firstPort = 1000;
/** How many marks there are before they begin anew. */
const marks = 1000;
/** Silence for so long is a denial, where an answer takes a tenth of a millisecond; in ms. */
const silenceMs = 100;

/**
 * Knows when what was written is in force. Each written state closes another port between two pods of each node, in a tier before all
 * others, and opens the last one again. An agent that has done both has read the whole file: what came and what went.
 */
export class Marker {
  readonly #lab: Lab;
  readonly #pairs: (readonly [LabNode, LabPod, LabPod])[] = [];
  #mark = 0;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** The pods; they are in a namespace of their own. */
  async start(): Promise<void> {
    await Promise.all(
      this.#lab.nodes.map(async (node, index) => {
        const pods = ['a', 'b'].map((letter) =>
          node.createPod(`marker${index + 1}${letter}`, { namespace: 'markers', labels: { marker: 'yes' } }),
        );
        const [from, to] = await Promise.all(pods);
        if (from === undefined || to === undefined) return;
        await Promise.all([from.add(), to.add(), from.peer()]);
        this.#pairs.push([node, from, to]);
      }),
    );
  }

  /** The objects of the next mark, to be written into the same file as what it marks. */
  next(): readonly Doc[] {
    this.#mark = (this.#mark + 1) % marks;
    const selector = "marker == 'yes'";
    const policy = (name: string, spec: object): Doc => ({
      apiVersion: v3,
      kind: 'GlobalNetworkPolicy',
      metadata: { name },
      spec: { tier: 'marker', selector, types: ['Ingress', 'Egress'], ...spec },
    });
    const closed = { protocol: 'TCP', destination: { ports: [firstPort + this.#mark] } };
    return [
      { apiVersion: v3, kind: 'Tier', metadata: { name: 'marker' }, spec: { order: 0, defaultAction: 'Deny' } },
      policy('marker-open', { order: 2, ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] }),
      policy(`marker-${this.#mark}`, { order: 1, types: ['Ingress'], ingress: [{ action: 'Deny', ...closed }] }),
    ];
  }

  /** Resolves when the last mark is in force in both families on every node whose agent runs. */
  async reached(): Promise<void> {
    await Promise.all(
      this.#pairs
        .filter(([node]) => node.agentPid !== undefined)
        .map(([node, from, to]) =>
          eventually(
            async () =>
              (await Promise.all(to.addresses.map((address) => this.#isReached(from, address)))).every(Boolean),
            () => `${node.name} does not enforce what was written\n${node.logTail()}`,
          ),
        ),
    );
  }

  async #isReached(from: LabPod, address: string): Promise<boolean> {
    const peer = await from.peer();
    const answers = async (mark: number) =>
      (await peer.probe(address, { port: firstPort + ((mark + marks) % marks), timeoutMs: silenceMs })).verdict ===
      'refused';
    const [last, present] = await Promise.all([answers(this.#mark - 1), answers(this.#mark)]);
    return last && !present;
  }
}

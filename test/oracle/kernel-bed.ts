import { tellAgent } from '#agent/admin/client.ts';
import { flowStates } from '#dataplanes/flows.ts';
import { openConntrack } from '#native/conntrack.ts';
import { startAgentLab } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { newToken, type Peer } from '#test/lab/peer-client.ts';
import { sctpInit, tokenHex } from '#test/lab/raw-payloads.ts';
import { familyOf, namespaceOf, ofKind, type Doc } from './cluster.ts';
import { podPorts, type Ground } from './generate.ts';
import { Marker } from './kernel-marker.ts';
import type { Packet } from './policy-model.ts';
import type { Random } from './random.ts';
import { outsiders, ports } from './vocabulary.ts';

/** One way of running the agents. */
export interface Variant {
  readonly name: string;
  readonly bpfEnabled: boolean;
  readonly env: Readonly<Record<string, string>>;
}

const podNames = ['p0', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6'] as const;
/** How long an answer is waited for, in ms; one that comes takes less than one. */
const silenceMs = 250;

/**
 * A real lab for the oracle: two nodes with agents, seven pods that keep running while labels and policies change, and clients outside.
 * ```
 * fabric (203.0.113.7, 2001:db8::7, ...) --- node1: p0 p2 p4 p6
 *                                        --- node2: p1 p3 p5
 * ```
 */
export class KernelBed implements AsyncDisposable {
  readonly lab: Lab;
  readonly ground: Ground;
  readonly #pods: ReadonlyMap<string, LabPod>;
  readonly #marker: Marker;
  readonly #labels = new Map<string, string>();
  /** The last question from each source port. */
  readonly #turns = new Map<string, Promise<unknown>>();

  private constructor(lab: Lab, ground: Ground, pods: ReadonlyMap<string, LabPod>, marker: Marker) {
    this.lab = lab;
    this.ground = ground;
    this.#pods = pods;
    this.#marker = marker;
  }

  /** Starts agents and pods; the caller disposes of it. */
  static async start(variant: Variant, random: Random): Promise<KernelBed> {
    const lab = await startAgentLab({ bpfEnabled: variant.bpfEnabled, agentEnv: variant.env });
    try {
      const marker = new Marker(lab);
      const slots = podNames.map((name, index) => ({
        name,
        node: lab.node(index % 2),
        namespace: ['red', 'green', 'blue'][index % 3] ?? '',
        serviceAccount: random.pick(['default', 'robot']),
        ports: podPorts(random),
      }));
      const [, pods] = await Promise.all([
        marker.start(),
        Promise.all(
          slots.map(async ({ name, node, ...options }) => {
            const named = options.ports.map((port) => ({ ...port, protocol: port.protocol as 'TCP' | 'UDP' | 'SCTP' }));
            const pod = await node.addPod(name, { ...options, ports: named, serves: ports });
            await pod.peer();
            return pod;
          }),
        ),
        outside(lab),
        ...lab.nodes.map((node) => node.peer()),
      ]);
      for (const pod of pods) await routeFromOutside(lab, pod);
      const ground: Ground = {
        nodes: lab.nodes.map((node) => node.manifest() as Doc),
        pods: slots.map(({ node, ...slot }, index) => ({
          ...slot,
          node: node.name,
          ipv4: pods[index]?.ipv4 ?? '',
          ipv6: pods[index]?.ipv6 ?? '',
        })),
        without: ['HostEndpoint', 'PodChange'],
      };
      return new KernelBed(lab, ground, new Map(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod])), marker);
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Makes these the objects of the cluster. Of pods only labels can change; nodes stay as they are. */
  write(docs: readonly Doc[]): void {
    for (const doc of ofKind(docs, 'Pod')) {
      const name = `${namespaceOf(doc)}/${doc.metadata.name}`;
      const labels = doc.metadata.labels ?? {};
      if (this.#labels.get(name) === JSON.stringify(labels)) continue;
      this.#labels.set(name, JSON.stringify(labels));
      this.#pods.get(name)?.relabel(labels);
    }
    const others = docs.filter(({ kind }) => kind !== 'Pod' && kind !== 'Node');
    this.lab.apply('oracle', [...others, ...this.#marker.next()]);
  }

  /** Resolves when every agent that runs enforces what was written. Flows of before are forgotten: they would go on. */
  async inForce(): Promise<void> {
    await this.#marker.reached();
    await this.forgetFlows();
  }

  /** In the dataplane's own memory, if it has one, and in the kernel's. Agents must run. */
  async forgetFlows(): Promise<void> {
    const addresses = [...this.ground.pods.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]), ...outsiders[4], ...outsiders[6]];
    await Promise.all(
      this.lab.nodes.map(async (node) => {
        await tellAgent(node.runDir, `/conntrack/delete?state=${flowStates.join(',')}`);
        using conntrack = openConntrack({ path: node.netnsPath });
        await conntrack.deleteOf(addresses);
      }),
    );
  }

  /** Does it arrive? Sent once. */
  async arrives(packet: Packet): Promise<boolean> {
    const { from, to, protocol, sourcePort, port = 0 } = packet;
    const [sender, receiver] = await Promise.all([this.#peerAt(from), this.#peerAt(to)]);
    if (protocol === 132 || protocol === 47) return arrivesRaw(sender, receiver, packet);
    const name = ({ 6: 'tcp', 17: 'udp', 1: 'icmp', 58: 'icmp' } as const)[protocol];
    if (name === undefined) throw new Error(`nobody here sends protocol ${protocol}`);
    const token = newToken();
    const plain = { from, protocol: name, port, token, timeoutMs: silenceMs };
    const { verdict } =
      sourcePort === undefined
        ? await sender.probe(to, plain)
        : await this.#inTurn(`${from} ${protocol} ${sourcePort}`, () => sender.probe(to, { ...plain, sourcePort }));
    // Who has several addresses may answer a datagram from another one; what counts is that it arrived.
    return verdict !== 'nothing' || (protocol === 17 && (await receiver.got(token)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }

  async #peerAt(address: string): Promise<Peer> {
    const owners = [...this.#pods.values(), ...this.lab.nodes];
    return owners.find(({ ipv4, ipv6 }) => ipv4 === address || ipv6 === address)?.peer() ?? this.lab.outside();
  }

  /** One after the other: only one socket can have a source port. */
  async #inTurn<T>(key: string, ask: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(key) ?? Promise.resolve()).then(ask);
    const settled = turn.catch(() => {});
    this.#turns.set(key, settled);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(key) === settled) this.#turns.delete(key);
    }
  }
}

/** A packet that nobody answers. */
async function arrivesRaw(
  sender: Peer,
  receiver: Peer,
  { from, to, protocol, sourcePort = 0, port = 0 }: Packet,
): Promise<boolean> {
  const token = newToken();
  const version = familyOf(from);
  await receiver.listenRaw(version, protocol);
  const hex = protocol === 132 ? sctpInit(sourcePort, port, token) : tokenHex(token);
  await sender.sendRaw(version, protocol, to, hex);
  const deadline = performance.now() + silenceMs;
  for (;;) {
    const isLate = performance.now() > deadline;
    if (await receiver.got(tokenHex(token))) return true;
    if (isLate) return false;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The addresses of those outside, and a process that serves there. */
async function outside(lab: Lab): Promise<void> {
  for (const address of outsiders[4]) await must('ip', '-n', lab.fabric, 'addr', 'add', `${address}/32`, 'dev', 'br0');
  for (const address of outsiders[6]) {
    await must('ip', '-n', lab.fabric, 'addr', 'add', `${address}/128`, 'dev', 'br0', 'nodad');
  }
  await lab.outside(ports);
}

async function routeFromOutside(lab: Lab, pod: LabPod): Promise<void> {
  const node = lab.nodes.find(({ name }) => name === pod.node.name);
  if (node === undefined) throw new Error(`${pod.name} is on no node`);
  await must('ip', '-n', lab.fabric, 'route', 'add', `${pod.ipv4}/32`, 'via', node.ipv4);
  await must('ip', '-n', lab.fabric, '-6', 'route', 'add', `${pod.ipv6}/128`, 'via', node.ipv6);
}

import { Lab, type LabOptions } from './lab.ts';
import type { LabNode } from './lab-node.ts';

/** The dataplanes, by the value of `bpfEnabled`: every behaviour table has a row for each. */
export const dataplanes = [
  { dataplane: 'iptables', bpfEnabled: false },
  { dataplane: 'ebpf', bpfEnabled: true },
] as const;

/** Both address families, with a source address that nobody owns. */
export const families = [
  { family: 'IPv4', version: 4, stranger: '192.0.2.66', nobody: '192.0.2.99' },
  { family: 'IPv6', version: 6, stranger: '2001:db8::66', nobody: '2001:db8::99' },
] as const;
export type FamilyRow = (typeof families)[number];

/** What of a pod or a node is of this family. */
export function addressOf(owner: { readonly ipv4: string; readonly ipv6: string }, { version }: FamilyRow): string {
  return version === 4 ? owner.ipv4 : owner.ipv6;
}

/** How a lab with running agents differs from the plainest one. */
export interface AgentLabOptions extends Partial<LabOptions> {
  readonly bpfEnabled: boolean;
  /** FelixConfiguration besides `bpfEnabled`. */
  readonly felix?: Readonly<Record<string, unknown>>;
}

/** A lab in which every node's agent is ready. The caller disposes of it; when an agent can't start, it is gone already. */
export async function startAgentLab({ bpfEnabled, felix = {}, nodes = 2, ...options }: AgentLabOptions): Promise<Lab> {
  const lab = await Lab.create({ nodes, ...options });
  try {
    lab.configure({ ...felix, bpfEnabled });
    await Promise.all(lab.nodes.map((node) => node.startAgent()));
    return lab;
  } catch (error) {
    await lab[Symbol.asyncDispose]();
    throw error;
  }
}

/** Waits until `isSo`; throws with what `explain` says when it takes longer than a slow machine excuses. */
export async function eventually(
  isSo: () => boolean | Promise<boolean>,
  explain: () => unknown,
  timeoutMs = 60_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await isSo())) {
    if (Date.now() > deadline) {
      const why = await explain();
      throw new Error(`not so after ${timeoutMs / 1000} s: ${typeof why === 'string' ? why : JSON.stringify(why)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Resolves when the node's agent has said this in its log. `from` is where to begin: the log's length at some earlier time. */
export function saysInLog(node: LabNode, text: string | RegExp, from = 0): Promise<void> {
  const isThere = () => {
    const log = node.log().slice(from);
    return typeof text === 'string' ? log.includes(text) : text.test(log);
  };
  return eventually(isThere, () => `${node.name} never said ${text}\n${node.logTail()}`);
}

/** How long the randomised tests run, in ms: SOAK_SECONDS, or a short while. */
export function soakMs(shortSeconds: number): number {
  return Number(process.env['SOAK_SECONDS'] ?? shortSeconds) * 1000;
}

/** A repeatable source of numbers (mulberry32), seeded by TT_SEED or by chance; the seed is printed. */
export function seededRandom(what: string): () => number {
  let state = Number(process.env['TT_SEED'] ?? Math.trunc(Math.random() * 2 ** 31)) >>> 0;
  process.stdout.write(`${what}: TT_SEED=${state}\n`);
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Objects in a real datastore, packets between real pods, against the reference: all of the product, agents killed at random. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { Doc } from './cluster.ts';
import { changed, randomCluster, randomPacket } from './generate.ts';
import { KernelBed, type Variant } from './kernel-bed.ts';
import { differs, explainDifference } from './kernel-case.ts';
import type { Packet } from './policy-model.ts';
import { Random } from './random.ts';
import { Reference } from './reference.ts';
import { packetText, verdictText } from './report.ts';

const variants: readonly Variant[] = [
  { name: 'iptables-nft', bpfEnabled: false, env: { FELIX_IPTABLESBACKEND: 'NFT' } },
  { name: 'iptables-legacy', bpfEnabled: false, env: { FELIX_IPTABLESBACKEND: 'Legacy' } },
  { name: 'ebpf', bpfEnabled: true, env: {} },
];
const budgetMs = soakMs(25);
const packetsEach = 80;
/** How many packets are under way at once: each is a process's turn on two cores. */
const atOnce = 20;

describe.each(variants)('$name', (variant) => {
  const random = new Random(seededRandom(`oracle, ${variant.name}`));
  let bed: KernelBed;

  beforeAll(async () => {
    bed = await KernelBed.start(variant, random);
  }, 60_000);
  afterAll(() => bed[Symbol.asyncDispose]());

  /** Different packets of the reference's choice, and what became of them. */
  async function fates(packets: readonly Packet[]): Promise<Map<Packet, boolean>> {
    const found = new Map<Packet, boolean>();
    const left = [...packets];
    const sender = async () => {
      for (let packet = left.pop(); packet !== undefined; packet = left.pop()) {
        found.set(packet, await bed.arrives(packet));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, sender));
    return found;
  }

  /** Somebody's agent is killed, or stopped, around what is written next. */
  async function disturbed(write: () => void): Promise<boolean> {
    if (!random.chance(0.12)) {
      write();
      return false;
    }
    const node: LabNode = random.pick(bed.lab.nodes);
    const [kills, before] = [random.chance(0.7), random.chance(0.5)];
    const end = () => (kills ? node.killAgent() : node.stopAgent());
    if (before) await end();
    write();
    if (!before) await end();
    await node.startAgent();
    return true;
  }

  it(
    'lets through what the reference allows, and nothing else',
    async () => {
      const figures = { clusters: 0, packets: 0, allowed: 0, restarts: 0, lateArrivals: 0, lateLosses: 0 };
      const end = Date.now() + budgetMs;
      let docs: Doc[] = [];
      const share = () => figures.allowed / figures.packets;
      // A few clusters may allow nearly everything, or nothing: it goes on until both answers were asked for.
      while (Date.now() < end || (Date.now() < end + 120_000 && !(share() > 0.2 && share() < 0.8))) {
        const before = docs;
        if (docs.length === 0 || random.chance(0.4)) docs = randomCluster(random, bed.ground);
        else for (let change = 0; change < 4; change++) docs = changed(random, bed.ground, docs);
        if (await disturbed(() => bed.write(docs))) figures.restarts++;
        await bed.inForce();
        figures.clusters++;
        const packets = new Map(
          Array.from({ length: packetsEach }, () => randomPacket(random, docs, { real: true })).map(
            (packet) => [packetText(packet), packet] as const,
          ),
        );
        const reference = new Reference(docs);
        for (const [packet, arrived] of await fates([...packets.values()])) {
          figures.packets++;
          const { allowed } = reference.judge(packet);
          if (allowed) figures.allowed++;
          if (arrived === allowed) continue;
          if (await differs(bed, docs, packet)) throw new Error(await explainDifference(bed, docs, before, packet));
          // It went away: the answer was slow on a busy machine, or something was in force late.
          figures[arrived ? 'lateArrivals' : 'lateLosses']++;
          process.stdout.write(
            `${variant.name}: late, after cluster ${figures.clusters}: ${packetText(packet)} ${arrived ? 'arrived' : 'was lost'}; ${verdictText(reference.judge(packet))}\n`,
          );
        }
      }
      process.stdout.write(`${variant.name}: ${JSON.stringify(figures)}\n`);
      expect(share()).toBeGreaterThan(0.2);
      expect(share()).toBeLessThan(0.8);
    },
    budgetMs + 240_000,
  );
});

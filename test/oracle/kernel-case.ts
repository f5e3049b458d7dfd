/** One comparison of reference and kernel: the objects of a cluster, and a packet. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseObject } from '#api/kinds.ts';
import { ofKind, type Doc } from './cluster.ts';
import type { KernelBed } from './kernel-bed.ts';
import type { Packet } from './policy-model.ts';
import { Reference } from './reference.ts';
import { differenceText, packetText, yamlOf } from './report.ts';
import { shrink } from './shrink.ts';

/** How long shrinking a difference may take, in ms: a try takes about one second. */
const shrinkBudgetMs = 120_000;
/** How often a packet is sent before its fate is believed to differ, and the pause between. */
const tries = 8;
const pauseMs = 400;

/** True when the packet's fate stays another than the reference says. */
export async function differs(bed: KernelBed, docs: readonly Doc[], packet: Packet, times = tries): Promise<boolean> {
  const { allowed } = new Reference(docs).judge(packet);
  for (let attempt = 0; attempt < times; attempt++) {
    if (attempt > 0) await sleep(pauseMs);
    await bed.forgetFlows();
    if ((await bed.arrives(packet)) === allowed) return false;
  }
  return true;
}

/** What is left when everything is left out that can be, as text; `before` is what was in force before these objects. */
export async function explainDifference(
  bed: KernelBed,
  docs: readonly Doc[],
  before: readonly Doc[],
  packet: Packet,
): Promise<string> {
  // Pods and nodes run whatever the objects say.
  const fixed = docs.filter(({ kind }) => kind === 'Node' || kind === 'Pod');
  const labels = Object.fromEntries(
    ofKind(docs, 'Pod').map(({ metadata }) => [`${metadata.namespace}/${metadata.name}`, metadata.labels ?? {}]),
  );
  const start = { objects: docs.filter((doc) => !fixed.includes(doc)), labels };
  const assembled = ({ objects = [], labels: chosen = {} }: Partial<typeof start>): readonly Doc[] => [
    ...fixed.map((doc) =>
      doc.kind === 'Pod'
        ? {
            ...doc,
            metadata: { ...doc.metadata, labels: chosen[`${doc.metadata.namespace}/${doc.metadata.name}`] ?? {} },
          }
        : doc,
    ),
    ...objects,
  ];
  const fails = async (candidate: Partial<typeof start>) => {
    const next = assembled(candidate);
    // What is no valid cluster, or doesn't come into force, is another failure.
    try {
      for (const doc of next) parseObject(doc);
      bed.write(next);
      await bed.inForce();
      return await differs(bed, next, packet, 2);
    } catch {
      return false;
    }
  };
  bed.write(assembled({ labels }));
  await bed.inForce();
  const isHistory = !(await fails(start));
  const small = isHistory ? docs : assembled(await shrink(start, fails, { budgetMs: shrinkBudgetMs }));
  const reference = new Reference(small).judge(packet);
  return differenceText({
    packet,
    reference,
    product: `${reference.allowed ? 'does not arrive' : 'arrives'} (${packetText(packet)})`,
    docs: isHistory ? small : small.filter((doc) => !isBystander(doc, packet)),
    ...(isHistory
      ? { history: `these objects alone don't show it; before them there were:\n${yamlOf(before)}and then:` }
      : {}),
  });
}

/** A node or pod that the packet doesn't concern, and that could lose all its labels without changing anything. */
function isBystander({ kind, metadata, status }: Doc, { from, to }: Packet): boolean {
  const addresses = JSON.stringify(status);
  return (
    (kind === 'Node' || kind === 'Pod') &&
    !addresses.includes(`"${from}"`) &&
    !addresses.includes(`"${to}"`) &&
    Object.keys(metadata.labels ?? {}).length === 0
  );
}

/** One comparison of reference and calc: a history of a cluster, and a packet. */
import { parseObject } from '#api/kinds.ts';
import { CalcSide, eventsFor, nodeNames, type ClusterEvent } from './calc-side.ts';
import type { Doc } from './cluster.ts';
import { keyOf } from './generate.ts';
import type { Packet } from './policy-model.ts';
import { Reference, type Verdict } from './reference.ts';
import { differenceText, verdictText, yamlOf } from './report.ts';
import { shrink } from './shrink.ts';

/** A history that ends with a flush, and what is asked then. */
export interface ModelCase {
  readonly events: readonly ClusterEvent[];
  readonly packet: Packet;
}

/** The product's side: the agents' calc unless a test says otherwise. */
export interface ProductSide {
  handle(event: ClusterEvent): void;
  judge(packet: Packet): Verdict;
}
type MakeSide = (docs: readonly Doc[]) => ProductSide;

/** How long shrinking a difference may take, in ms. */
const shrinkBudgetMs = 20_000;

/** The objects that are there after the events. */
export function docsAfter(events: readonly ClusterEvent[]): readonly Doc[] {
  const docs = new Map<string, Doc>();
  for (const event of events) {
    if (event.do === 'set') docs.set(keyOf(event.doc), event.doc);
    if (event.do === 'remove') docs.delete(keyOf(event.doc));
  }
  return [...docs.values()];
}

/** How calc's side differs: `verdict`, or the error that it threw; undefined when it agrees. */
function differenceOf({ events, packet }: ModelCase, makeSide: MakeSide): string | undefined {
  const docs = docsAfter(events);
  const side = makeSide(docs);
  try {
    for (const event of events) side.handle(event);
    if (events.at(-1)?.do !== 'flush') return undefined;
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message.replaceAll(/[\w:-]{16,}/g, '...')}` : String(error);
  }
  return side.judge(packet).allowed === new Reference(docs).judge(packet).allowed ? undefined : 'verdict';
}

/** Leaving out parts makes much that is no cluster. */
function isValid({ events }: ModelCase): boolean {
  try {
    for (const event of events) {
      if (!['set', 'remove', 'flush'].includes(event.do)) return false;
      if (event.do === 'flush') continue;
      const { object } = parseObject(event.doc);
      // A pod that runs nowhere has no endpoint.
      if (object.kind === 'Pod' && object.spec.nodeName === undefined) return false;
    }
    return true;
  } catch {
    return false;
  }
}

/** The smallest case with the same difference, as text. The objects alone are tried first: a history is harder to read. */
export async function explainDifference(
  original: ModelCase,
  makeSide: MakeSide = (docs) => new CalcSide(nodeNames(docs)),
): Promise<string> {
  const { packet } = original;
  const wanted = differenceOf(original, makeSide);
  const fails = (candidate: ModelCase) => {
    return isValid(candidate) && differenceOf(candidate, makeSide) === wanted;
  };
  const fresh: ModelCase = { events: eventsFor(docsAfter(original.events)), packet };
  const isHistory = !fails(fresh);
  const { events } = await shrink(isHistory ? original : fresh, (smaller) => fails({ ...smaller, packet }), {
    budgetMs: shrinkBudgetMs,
  });
  const docs = docsAfter(events);
  const side = makeSide(docs);
  let product: string;
  try {
    for (const event of events) side.handle(event);
    product = verdictText(side.judge(packet));
  } catch (error) {
    product = `breaks with ${String(error)}`;
  }
  return differenceText({
    packet,
    reference: new Reference(docs).judge(packet),
    product,
    docs,
    ...(isHistory ? { history: `after these events:\n${yamlOf(events)}and with these objects in the end:` } : {}),
  });
}

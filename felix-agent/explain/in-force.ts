import type { ApplyFailure, DataplaneCapabilities } from '#dataplanes/contract.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { Party } from './directory.ts';
import type { Explanation } from './explain.ts';

/** What an answer needs to know of the dataplane in the packets' path: what calc has said is one thing, what the kernel does another. */
export interface InForce {
  /** Undefined while there is none. */
  readonly dataplane:
    | { readonly kind: string; readonly capabilities: Pick<DataplaneCapabilities, 'enforcesPolicy'> }
    | undefined;
  /** What could not be programmed at the last try. */
  readonly failures: readonly ApplyFailure[];
}

/** The answer, as far as the kernel does what calc has said; what it does not is said in notes, and in the verdict where it is certain. */
export function asInForce(answer: Explanation, inForce: InForce): Explanation {
  const locals = [answer.source, answer.destination].filter(({ endpoint }) => endpoint !== undefined);
  const endpoints = new Set(locals.flatMap(({ endpoint }) => endpoint ?? []));
  const notes = [...answer.notes, ...notesInForce(inForce, endpoints)];
  const { dataplane } = inForce;
  const isToItself = answer.source.endpoint === answer.destination.endpoint;
  if (dataplane === undefined || dataplane.capabilities.enforcesPolicy || isToItself) return { ...answer, notes };
  const closed = locals.find(({ endpoint }) => reasonFor(inForce, endpoint) !== undefined);
  if (closed !== undefined) {
    return { ...answer, notes, verdict: 'deny', reason: closedText(closed, inForce), egress: null, ingress: null };
  }
  // An endpoint that is open is open for everything: no rule, and no setting that acts through rules, has a say.
  const isDenied = [answer.egress, answer.ingress].some((judgement) => judgement?.verdict === 'deny');
  if (isDenied || answer.verdict === 'allow') return { ...answer, notes };
  const reason = `the ${dataplane.kind} dataplane does not act on: ${answer.reason}`;
  return { ...answer, notes, verdict: 'allow', reason };
}

/** What a reader of rules or verdicts about these endpoints must know. */
export function notesInForce(inForce: InForce, endpoints: Iterable<EndpointId>): readonly string[] {
  const { dataplane } = inForce;
  const failed = [...endpoints].flatMap((id) => {
    const reason = reasonFor(inForce, id);
    return reason === undefined ? [] : [`endpoint ${id} is not programmed as it should be: ${reason}`];
  });
  if (dataplane === undefined) return ['no dataplane is active yet: nothing of this is in force', ...failed];
  if (dataplane.capabilities.enforcesPolicy) return failed;
  return [
    `the ${dataplane.kind} dataplane does not enforce policy: an endpoint that a policy selects gets nothing through, and rules count nothing`,
    ...failed,
  ];
}

function reasonFor({ failures }: InForce, id: EndpointId | undefined): string | undefined {
  return id === undefined ? undefined : failures.find(({ endpoint }) => endpoint === id)?.reason;
}

function closedText(party: Party, inForce: InForce): string {
  return `nothing passes from or to ${party.name}: ${reasonFor(inForce, party.endpoint)}`;
}

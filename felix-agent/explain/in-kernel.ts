import type { Dataplane } from '#dataplanes/contract.ts';
import type { LegView, PacketView, ServicesView } from '#dataplanes/observe.ts';
import type { Directory, Party } from './directory.ts';
import { type Explanation, type ExplainRequest, explain } from './explain.ts';
import { asInForce, type InForce } from './in-force.ts';
import type { PolicyView } from './policy-view.ts';
import type { Judgement } from './walk.ts';

/** Who gets a connection to a Service's address. */
export interface ServiceChoice {
  readonly service: string | null;
  readonly address: string;
  readonly port: number;
  /** Each is as likely as the others; what policy says of it. The first is the one that the rest of the answer is about. */
  readonly backends: readonly {
    readonly address: string;
    readonly port: number;
    readonly verdict: Explanation['verdict'];
    readonly reason: string;
  }[];
  /** Backends that were not looked at. */
  readonly more: number;
}

/** What is asked of the dataplane in force. */
export interface Inspected {
  readonly inspect?: Dataplane['inspect'];
  readonly services?: Pick<ServicesView, 'find'>;
}

/** What an explanation is made from. */
export interface ExplainSources {
  readonly directory: Pick<Directory, 'find'>;
  readonly view: PolicyView;
  readonly inForce: InForce;
  readonly dataplane: Inspected | undefined;
}

/** Backends of a Service that are judged, at most. */
const mostBackends = 16;

/**
 * The answer by calc's rules, beside what the dataplane's own tables say of the packet where it has such, and a note where the two differ. A
 * Service that the dataplane translates is answered by its backends, as the kernel has them.
 */
export async function explainInKernel(request: ExplainRequest, sources: ExplainSources): Promise<Explanation> {
  const answer = asInForce(explain(request, sources.directory, sources.view), sources.inForce);
  return (await byBackends(request, answer, sources)) ?? (await withKernel(answer, sources));
}

async function byBackends(
  request: ExplainRequest,
  { packet, source, destination, notes, ...answer }: Explanation,
  sources: ExplainSources,
): Promise<Explanation | undefined> {
  const { destinationPort } = packet;
  // What the node itself opens, others translate.
  if (source.kind !== 'local endpoint' || destination.kind !== 'outside' || destinationPort === undefined)
    return undefined;
  const found = sources.dataplane?.services?.find(packet.destination, destinationPort, packet.protocol);
  if (found === undefined) return undefined;
  const name = found.service === undefined ? 'a Service' : `Service ${found.service}`;
  const service = { service: found.service ?? null, address: packet.destination, port: destinationPort };
  if (found.backends.length === 0) {
    const reason = `${name} has no backend: it is refused at once (no-backend)`;
    const none = { ...service, backends: [], more: 0 };
    return {
      ...answer,
      packet,
      source,
      destination,
      notes,
      verdict: 'deny',
      reason,
      egress: null,
      ingress: null,
      service: none,
    };
  }
  const judged: { readonly backend: { readonly address: string; readonly port: number }; readonly of: Explanation }[] =
    [];
  for (const backend of found.backends.slice(0, mostBackends)) {
    const of = asInForce(
      explain(
        { ...request, destination: backend.address, port: String(backend.port) },
        sources.directory,
        sources.view,
      ),
      sources.inForce,
    );
    judged.push({ backend, of: await withKernel(of, sources) });
  }
  const [first] = judged;
  if (first === undefined) return undefined;
  const allowed = judged.filter(({ of }) => of.verdict === 'allow').length;
  const verdict = allowed === judged.length ? 'allow' : allowed === 0 ? 'deny' : 'depends';
  return {
    ...first.of,
    verdict,
    reason:
      verdict === 'depends'
        ? `${name}: ${allowed} of ${judged.length} backends may be reached, and each connection gets any of them`
        : `${name}, ${judged.length === 1 ? 'its backend' : 'all backends alike'}: ${first.of.reason}`,
    service: {
      ...service,
      backends: judged.map(({ backend, of }) => ({ ...backend, verdict: of.verdict, reason: of.reason })),
      more: found.backends.length - judged.length,
    },
  };
}

async function withKernel(answer: Explanation, { view, dataplane }: ExplainSources): Promise<Explanation> {
  const { packet, egress, ingress } = answer;
  const deviceOf = ({ endpoint }: Party) => (endpoint === undefined ? undefined : view.endpoint(endpoint)?.ifaceName);
  const [sourceDevice, destinationDevice] = [
    egress === null ? undefined : deviceOf(answer.source),
    ingress === null ? undefined : deviceOf(answer.destination),
  ];
  const kernel = await dataplane?.inspect?.({
    ...packet,
    ...(sourceDevice === undefined ? {} : { sourceDevice }),
    ...(destinationDevice === undefined ? {} : { destinationDevice }),
  });
  if (kernel === undefined) return answer;
  return { ...answer, kernel, notes: [...differences(answer, kernel), ...answer.notes] };
}

function differences({ egress, ingress }: Explanation, { legs }: PacketView): readonly string[] {
  return legs.flatMap((leg) => {
    const judgement = leg.direction === 'egress' ? egress : ingress;
    if (judgement === null || agrees(leg, judgement)) return [];
    return [
      `the kernel's tables say otherwise than the rules: ${leg.direction} is ${leg.verdict} there, by ${leg.decidedBy}; by the rules ${judgement.verdict}, ` +
        `${judgement.reason}. Right after a change that passes by itself; else tortie status says what isn't programmed`,
    ];
  });
}

function agrees(leg: LegView, { verdict, rule }: Judgement): boolean {
  return leg.verdict === verdict && (leg.rule ?? null) === rule;
}

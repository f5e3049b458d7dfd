import { keyText } from '#api/meta.ts';
import { parseAs } from '#api/kinds.ts';
import { CalcGraph } from '#agent/calc/calc-graph.ts';
import { convertPolicy } from '#agent/calc/convert/convert.ts';
import type { CalcPolicy } from '#agent/calc/model.ts';
import { endpointId, endpointInfo } from '#agent/endpoints/endpoint-info.ts';
import { heapUsed, mustSay, repeat, type Spread } from './timing.ts';
import { bigNetworkSet, bigSetPolicy, isLocal, localEndpoint, namespace, pod, policy, scale, self } from './world.ts';

/** What one run has measured; times of changes are in microseconds, from the object to the messages. */
export interface CalcFigures {
  readonly buildMs: number;
  readonly localLabel: Spread;
  readonly remoteLabel: Spread;
  readonly policyChange: Spread;
  readonly namespaceLabel: Spread;
  readonly bigSet: Spread;
  /** The Pods as the informer holds them, and all other inputs. */
  readonly objectBytesPerEndpoint: number;
  /** All that calc holds besides (labels, sets, members, policies' lists, what it has said), divided by the endpoints. */
  readonly bytesPerEndpoint: number;
}

/** Builds the cluster and changes things in it. Needs `--expose-gc`. */
export function measure(): CalcFigures {
  const bare = heapUsed();
  const pods = Array.from({ length: scale.endpoints }, (_, index) => pod(index));
  const locals = pods.flatMap((_, index) => (isLocal(index) ? [localEndpoint(index)] : []));
  const namespaces = Array.from({ length: scale.namespaces }, (_, index) => namespace(index, `team-${index % 10}`));
  const policies = Array.from({ length: scale.policies }, (_, index) => converted(index));
  const graph = new CalcGraph(self);

  const began = performance.now();
  for (const object of namespaces) graph.onNamespace(object.metadata.name, object);
  const empty = heapUsed();
  for (const object of pods) graph.onPod(keyText(object.metadata), object);
  for (const object of locals) {
    graph.onLocalEndpoint(endpointId(object), { device: endpointInfo(object), object });
  }
  for (const object of policies) graph.onPolicy(object.id, object);
  const first = graph.flush();
  const full = heapUsed();
  const buildMs = performance.now() - began - full.ms - empty.ms;
  mustSay(first, 'policyUpdate');

  const figures = {
    buildMs,
    localLabel: repeat(
      1_000,
      (round) => {
        const index = (round * 10) % scale.endpoints;
        const changed = pod(index, { app: `app-${round % scale.appsPerNamespace}`, round: `${round}` });
        return () => graph.onPod(keyText(changed.metadata), changed);
      },
      graph,
    ),
    remoteLabel: repeat(
      1_000,
      (round) => {
        const changed = pod((round * 10 + 1) % scale.endpoints, { tier: round % 3 === 0 ? 'other' : 'front' });
        return () => graph.onPod(keyText(changed.metadata), changed);
      },
      graph,
    ),
    policyChange: repeat(
      1_000,
      (round) => {
        const { id } = policies[Math.floor(round / 2) % scale.policies]!;
        return () => graph.onPolicy(id, round % 2 === 0 ? undefined : policies[Math.floor(round / 2) % scale.policies]);
      },
      graph,
    ),
    namespaceLabel: repeat(
      200,
      (round) => {
        const changed = namespace(round % scale.namespaces, `team-${(round + 1 + Math.floor(round / 100)) % 10}`);
        return () => graph.onNamespace(changed.metadata.name, changed);
      },
      graph,
    ),
    objectBytesPerEndpoint: (empty.bytes - bare.bytes) / scale.endpoints,
    bytesPerEndpoint: (full.bytes - empty.bytes) / scale.endpoints,
  };
  graph.onPolicy('GlobalNetworkPolicy big', convertPolicy('GlobalNetworkPolicy', bigSetPolicy()));
  graph.onGlobalNetworkSet('big', bigNetworkSet(100_000, []));
  mustSay(graph.flush(), 'ipSetUpdate');
  const bigSet = repeat(
    100,
    (round) => {
      const changed = bigNetworkSet(1, [`203.0.113.${round % 250}`]);
      return () => graph.onGlobalNetworkSet('small', changed);
    },
    graph,
  );
  return { ...figures, bigSet };
}

function converted(index: number): CalcPolicy {
  const { kind, object } = policy(index);
  const result = convertPolicy(kind, parseAs(kind, object).object as never);
  if (result === undefined || result.problems.length > 0) throw new Error(`policy ${index} can't be converted`);
  return result;
}

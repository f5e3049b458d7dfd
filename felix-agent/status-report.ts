import type { AgentParts } from './agent.ts';
import type { CalcGraph } from './calc/calc-graph.ts';
import type { AgentStatus } from './status.ts';
import { version } from './version.ts';

/** What the agent's parts say of themselves at this moment. `notReady` is why the agent isn't ready; `notActedOn` are objects with such fields. */
export function reportStatus(
  parts: AgentParts,
  notReady: readonly string[],
  notActedOn: AgentStatus['notActedOn'],
): AgentStatus {
  const { settings, datastore, store, config, driver, dataplanes, endpoints, publisher, cluster } = parts;
  const { healthServer, metricsServer, statusFiles, cniConf, preflight, graph } = parts;
  const { active, wanted, reasons } = dataplanes.status();
  const servers = [healthServer, metricsServer, statusFiles].flatMap(({ failure }) => failure ?? []);
  return {
    node: settings.nodeName,
    version,
    ready: notReady.length === 0,
    reasons: notReady,
    dataplane: {
      active: active ?? null,
      wanted: wanted === '' ? config.current.wanted : wanted,
      reasons,
      failures: driver.failures().map(({ object, reason }) => ({ object, reason })),
      hostDevices: dataplanes.active?.hostDevices ?? [],
      notes: dataplanes.active?.notes ?? [],
      inForce: dataplanes.active?.inForce ?? null,
    },
    datastore: {
      location: datastore.location,
      ...(settings.datastore.kind === 'kubernetes' && settings.datastore.kubeconfig !== undefined
        ? { kubeconfig: settings.datastore.kubeconfig }
        : {}),
      absentKinds: datastore.absent(),
      problems: datastore.problems(),
      failures: [
        ...store.failures(),
        ...[publisher.failure, cluster?.node.failure].filter((failure) => failure !== undefined),
      ],
    },
    cluster: { problems: cluster?.defaults.problems ?? [] },
    addresses: cluster?.controllers.status() ?? null,
    notActedOn,
    policy: { problems: policyProblems(graph) },
    configuration: config.current.report,
    services: { failures: [...servers, ...(cniConf?.failures ?? [])] },
    preflight: preflight.problems ?? null,
    endpoints: endpoints.list().length,
  };
}

/** Why pods can't be wired, or are not as they should be; empty if all is well. `stage` is what a starting agent is at, empty once it is in sync. */
export function notReadyReasons(parts: AgentParts, stage: string): readonly string[] {
  const { settings, store, driver, dataplanes, ipam, cluster } = parts;
  if (stage !== '') return [stage, ...store.failures()];
  const noNode = store.of('Node').get({ name: settings.nodeName }) === undefined;
  const noAddresses = cluster?.defaults.unavailableReason ?? ipam.unavailableReason();
  return [
    ...dataplanes.status().reasons,
    ...(noNode
      ? [`the datastore has no Node ${settings.nodeName}: this node's name and labels are unknown to the others`]
      : []),
    ...(noAddresses === undefined ? [] : [noAddresses]),
    ...driver.failures().map(({ object, reason }) => `${object}: ${reason}`),
  ];
}

function policyProblems(graph: CalcGraph): AgentStatus['policy']['problems'] {
  return [...graph.problems()].flatMap(([object, messages]) => messages.map((message) => ({ object, message })));
}

import type { ServicesView, ServiceView } from '#dataplanes/observe.ts';

/** What the agent answers to `tortie services`; a stable shape. */
export interface ServicesReport {
  readonly dataplane: string;
  readonly services: readonly ServiceView[];
  /** What else a reader must know. */
  readonly note: string;
}

/** A question about Services that has no answer. */
export class ServicesQuestionError extends Error {
  override readonly name = 'ServicesQuestionError';
  readonly code = 'bad-request';
}

/** Services as the dataplane in force has them, all or the one that is named. Throws where they are kube-proxy's, and for a name that nobody has. */
export function reportServices(
  query: URLSearchParams,
  active: { readonly kind: string; readonly services?: ServicesView } | undefined,
): ServicesReport {
  if (active === undefined) throw new ServicesQuestionError('no dataplane is in force yet');
  const { kind, services: view } = active;
  if (view === undefined)
    throw new ServicesQuestionError(
      `the ${kind} dataplane leaves Services to kube-proxy: its own rules on this node say who answers (iptables -t nat -S, or nft list table ip kube-proxy)`,
    );
  const name = query.get('service');
  const all = view.list();
  const services = name === null ? all : all.filter(({ service }) => service === name || service === `default/${name}`);
  if (name !== null && services.length === 0)
    throw new ServicesQuestionError(
      `the ${kind} dataplane knows no Service ${name} with a cluster IP: give NAMESPACE/NAME, as "tortie services" lists them`,
    );
  return {
    dataplane: kind,
    services,
    note: "connections to cluster IPs are translated here, those of pods always, the node's own where no kube-proxy has done it; node ports, external and load balancer addresses are kube-proxy's",
  };
}

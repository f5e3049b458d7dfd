/** Calico's policy kinds, by the words of its documentation: NetworkPolicy and GlobalNetworkPolicy. */
import {
  familyOf,
  isIn,
  namespaceOf,
  ofKind,
  protocolNumber,
  type Doc,
  type Family,
  type Selectable,
} from './cluster.ts';
import { isNamedPort, type Action, type Packet, type Policy, type Rule } from './policy-model.ts';
import { readSelector } from './selector-text.ts';

const v3 = 'projectcalico.org/v3';

interface PolicySpec {
  readonly tier?: string;
  readonly order?: number;
  readonly types?: readonly ('Ingress' | 'Egress')[];
  readonly selector?: string;
  readonly namespaceSelector?: string;
  readonly serviceAccountSelector?: string;
  readonly applyOnForward?: boolean;
  readonly doNotTrack?: boolean;
  readonly preDNAT?: boolean;
  readonly ingress?: readonly RuleFields[];
  readonly egress?: readonly RuleFields[];
}

interface RuleFields {
  readonly action: Action;
  readonly ipVersion?: Family;
  readonly protocol?: string | number;
  readonly notProtocol?: string | number;
  readonly icmp?: IcmpFields;
  readonly notICMP?: IcmpFields;
  readonly source?: EntityFields;
  readonly destination?: EntityFields;
}

interface IcmpFields {
  readonly type?: number;
  readonly code?: number;
}

interface EntityFields {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  readonly selector?: string;
  readonly notSelector?: string;
  readonly namespaceSelector?: string;
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
  readonly serviceAccounts?: { readonly names?: readonly string[]; readonly selector?: string };
  readonly services?: { readonly name: string; readonly namespace?: string };
}

/** Both kinds as the reference takes policies. */
export function calicoPolicies(docs: readonly Doc[], things: readonly Selectable[]): readonly Policy[] {
  return docs.filter(isCalicoPolicy).map((doc) => calicoPolicy(docs, things, doc));
}

/** The rules of a Profile object, which are as a GlobalNetworkPolicy's; undefined if there is none of the name. */
export function calicoProfile(
  docs: readonly Doc[],
  things: readonly Selectable[],
  name: string,
): { readonly ingress: readonly Rule[]; readonly egress: readonly Rule[] } | undefined {
  const doc = ofKind(docs, 'Profile').find(({ metadata }) => metadata.name === name);
  if (doc === undefined) return undefined;
  const { ingress = [], egress = [] } = (doc.spec ?? {}) as Pick<PolicySpec, 'ingress' | 'egress'>;
  const rules = (list: readonly RuleFields[]) => list.map((rule) => calicoRule(docs, things, undefined, rule));
  return { ingress: rules(ingress), egress: rules(egress) };
}

/** The tier that a policy says it is in; undefined for what is no policy. */
export function tierOf(doc: Doc): string | undefined {
  return isCalicoPolicy(doc) ? ((doc.spec as PolicySpec | undefined)?.tier ?? 'default') : undefined;
}

function isCalicoPolicy({ apiVersion, kind }: Doc): boolean {
  return apiVersion === v3 && (kind === 'NetworkPolicy' || kind === 'GlobalNetworkPolicy');
}

/** A NetworkPolicy (of its namespace only) or a GlobalNetworkPolicy. */
function calicoPolicy(docs: readonly Doc[], things: readonly Selectable[], doc: Doc): Policy {
  const spec = (doc.spec ?? {}) as PolicySpec;
  const namespace = doc.kind === 'NetworkPolicy' ? namespaceOf(doc) : undefined;
  const { ingress = [], egress = [] } = spec;
  // Without `types`: the directions that have rules; without any rule ingress.
  const types = spec.types ?? [
    ...(ingress.length > 0 || egress.length === 0 ? ['Ingress'] : []),
    ...(egress.length > 0 ? ['Egress'] : []),
  ];
  const rules = (list: readonly RuleFields[]) => list.map((rule) => calicoRule(docs, things, namespace, rule));
  return {
    id: `${doc.kind} ${namespace === undefined ? '' : `${namespace}/`}${doc.metadata.name}`,
    tier: spec.tier ?? 'default',
    order: spec.order ?? Infinity,
    tie: `${doc.metadata.name}/${namespace ?? ''}/${doc.kind}`,
    ...(spec.applyOnForward === true ? { appliesOnForward: true } : {}),
    selects: (endpoint) =>
      // These have a place of their own, before connection tracking and before translation.
      spec.doNotTrack !== true &&
      spec.preDNAT !== true &&
      (namespace === undefined || endpoint.namespace === namespace) &&
      isSubject(spec, endpoint),
    ...(types.includes('Ingress') ? { ingress: rules(ingress) } : {}),
    ...(types.includes('Egress') ? { egress: rules(egress) } : {}),
  };
}

/** By the labels of the namespace; `all()`: in any namespace, `global()`: in none. */
function inNamespaces(namespaceSelector: string | undefined, thing: Selectable): boolean {
  return (
    !says(namespaceSelector) || readSelector(namespaceSelector)(thing.namespaceLabels, thing.namespace !== undefined)
  );
}

/**
 * Which endpoints a GlobalNetworkPolicy is about. Beside a namespaceSelector `all()` means what is in a namespace, beside a
 * serviceAccountSelector what has a service account: so that neither reaches host endpoints by accident.
 */
function isSubject(spec: PolicySpec, endpoint: Selectable): boolean {
  const { selector = '', namespaceSelector, serviceAccountSelector } = spec;
  const hasAccount = endpoint.serviceAccount !== undefined;
  const inAll = says(namespaceSelector)
    ? endpoint.namespace !== undefined
    : !says(serviceAccountSelector) || hasAccount;
  return (
    readSelector(selector)(endpoint.labels, inAll) &&
    inNamespaces(namespaceSelector, endpoint) &&
    (!says(serviceAccountSelector) || readSelector(serviceAccountSelector)(endpoint.serviceAccountLabels, hasAccount))
  );
}

function says(text: string | undefined): text is string {
  return text !== undefined && text !== '';
}

/** All given fields must hold. */
function calicoRule(
  docs: readonly Doc[],
  things: readonly Selectable[],
  namespace: string | undefined,
  rule: RuleFields,
): Rule {
  const { source = {}, destination = {} } = rule;
  // What asks for something that nobody can judge must not let anything through: Allow and Log match nothing, the others deny everything.
  if (rule.notICMP !== undefined && rule.protocol === undefined && rule.notProtocol !== undefined) {
    return { action: 'Deny', matches: () => rule.action === 'Deny' || rule.action === 'Pass' };
  }
  // Names of ports are names of a protocol's ports: TCP's where the rule doesn't say.
  const namesOf = protocolNumber(rule.protocol ?? 'TCP');
  return {
    action: rule.action,
    matches: (packet) => {
      const family = familyOf(packet.from);
      const nets = [source, destination].flatMap(({ nets = [], notNets = [] }) => [...nets, ...notNets]);
      return (
        (rule.ipVersion === undefined || rule.ipVersion === family) &&
        // A rule that names networks, also to except them, is about their family only.
        nets.every((net) => familyOf(net) === family) &&
        (rule.protocol === undefined || protocolNumber(rule.protocol) === packet.protocol) &&
        (rule.notProtocol === undefined || protocolNumber(rule.notProtocol) !== packet.protocol) &&
        (rule.icmp === undefined || isIcmp(rule.icmp, packet)) &&
        (rule.notICMP === undefined || !isIcmp(rule.notICMP, packet)) &&
        isPeer(source, packet.from, packet.sourcePort, packet.protocol) &&
        isPeer(destination, packet.to, packet.port, packet.protocol) &&
        // As a source a service is its addresses, as a destination its addresses with their ports.
        (source.services === undefined ||
          serviceTargets(docs, source.services, namespace).some(({ address }) => address === packet.from)) &&
        (destination.services === undefined ||
          serviceTargets(docs, destination.services, namespace).some(
            ({ address, protocol, port }) =>
              address === packet.to && protocol === packet.protocol && port === packet.port,
          ))
      );
    },
  };

  function isPeer(peer: EntityFields, address: string, port: number | undefined, protocol: number): boolean {
    const { nets, notNets = [], selector, notSelector, namespaceSelector, serviceAccounts, ports, notPorts } = peer;
    // In a namespaced policy whoever is selected by labels is of the same namespace, unless a namespaceSelector says otherwise.
    const ownNamespaceOnly = namespace !== undefined && !says(namespaceSelector);
    const asksForLabels =
      says(selector) ||
      says(namespaceSelector) ||
      serviceAccounts !== undefined ||
      (ownNamespaceOnly && says(notSelector));
    const isSelected = (thing: Selectable) =>
      (!ownNamespaceOnly || thing.namespace === namespace) &&
      inNamespaces(namespaceSelector, thing) &&
      readSelector(selector ?? '')(thing.labels) &&
      (serviceAccounts?.names === undefined || serviceAccounts.names.includes(thing.serviceAccount ?? '')) &&
      readSelector(serviceAccounts?.selector ?? '')(thing.serviceAccountLabels);
    const selected = asksForLabels ? things.filter(isSelected) : things;
    const among = (chosen: readonly Selectable[]) =>
      chosen.some((thing) => thing.nets.some((net) => isIn(address, net)));
    return (
      (nets === undefined || nets.length === 0 || nets.some((net) => isIn(address, net))) &&
      !notNets.some((net) => isIn(address, net)) &&
      (!asksForLabels || among(selected)) &&
      (!says(notSelector) || !among(things.filter(({ labels }) => readSelector(notSelector ?? '')(labels)))) &&
      // A port's name is what one of the selected calls it: that its address is in a selected network set isn't enough.
      (ports === undefined || ports.length === 0 || hasPort(ports, selected, address, port, protocol)) &&
      !hasPort(notPorts ?? [], selected, address, port, protocol)
    );
  }

  function hasPort(
    ports: readonly (number | string)[],
    selected: readonly Selectable[],
    address: string,
    port: number | undefined,
    protocol: number,
  ): boolean {
    return ports.some((wanted) => {
      const [first = '', last = first] = String(wanted).split(':');
      if (/^\d+$/.test(first)) return port !== undefined && port >= Number(first) && port <= Number(last);
      return isNamedPort(selected, first, namesOf, address, port, protocol);
    });
  }
}

function isIcmp({ type, code }: IcmpFields, { icmp }: Packet): boolean {
  return icmp !== undefined && (type === undefined || type === icmp.type) && (code === undefined || code === icmp.code);
}

/** What the EndpointSlices of a service say; ready or not. */
function serviceTargets(
  docs: readonly Doc[],
  service: { readonly name: string; readonly namespace?: string },
  policyNamespace: string | undefined,
): readonly { readonly address: string; readonly protocol: number; readonly port: number | undefined }[] {
  return ofKind(docs, 'EndpointSlice')
    .filter(
      (slice) =>
        slice.metadata.labels?.['kubernetes.io/service-name'] === service.name &&
        namespaceOf(slice) === (service.namespace ?? policyNamespace),
    )
    .flatMap((slice) => {
      const { endpoints = [], ports = [] } = slice as {
        readonly endpoints?: readonly { readonly addresses: readonly string[] }[];
        readonly ports?: readonly { readonly port?: number; readonly protocol?: string }[];
      };
      return endpoints
        .flatMap(({ addresses }) => addresses)
        .flatMap((address) => [
          { address, protocol: -1, port: undefined },
          ...ports.map(({ port, protocol = 'TCP' }) => ({ address, protocol: protocolNumber(protocol), port })),
        ]);
    });
}

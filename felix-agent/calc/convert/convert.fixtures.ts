/** Policies for the conversion's tests: written as users write them, read as the datastore reads them. */
import { parseAs, kinds, type KindMap } from '#api/kinds.ts';
import type { CalcPeer, CalcPolicy, CalcRule, SetSpec } from '../model.ts';
import { convertPolicy, type PolicyKind } from './convert.ts';

/** An object called `p` (of namespace `ns` where its kind has one), checked and with defaults as the datastore hands it out. */
export function parsedObject<K extends keyof KindMap>(kind: K, spec: object, metadata: object = {}): KindMap[K] {
  const info = kinds[kind];
  return parseAs(kind, {
    apiVersion: info.apiVersion,
    kind: info.kind,
    metadata: { name: 'p', ...(info.namespaced ? { namespace: 'ns' } : {}), ...metadata },
    spec,
  }).object;
}

/** The conversion of such an object. */
export function converted(kind: PolicyKind, spec: object, metadata: object = {}): CalcPolicy {
  const policy = convertPolicy(kind, parsedObject(kind, spec, metadata));
  if (policy === undefined) {
    throw new Error(`${kind} was converted to nothing`);
  }
  return policy;
}

/** A rule with what it asks, and nothing else: sets in words, ends and lists that ask nothing left out. */
export function said(rule: CalcRule | undefined): object {
  if (rule === undefined) {
    throw new Error('there is no such rule');
  }
  const { source, destination, ...rest } = rule;
  return { ...rest, ...end('source', source), ...end('destination', destination) };
}

function end(name: string, { sets, notSets, portSets, notPortSets, ipPortSets, ports, notPorts, ...nets }: CalcPeer) {
  const lists = {
    sets: sets.map(words),
    notSets: notSets.map(words),
    portSets: portSets.map(words),
    notPortSets: notPortSets.map(words),
    ipPortSets: ipPortSets.map(words),
    ports: ports.map(({ min, max }) => (min === max ? `${min}` : `${min}-${max}`)),
    notPorts: notPorts.map(({ min, max }) => (min === max ? `${min}` : `${min}-${max}`)),
  };
  const asked = Object.entries(lists).filter(([, list]) => list.length > 0);
  return asked.length === 0 && Object.keys(nets).length === 0
    ? {}
    : { [name]: { ...nets, ...Object.fromEntries(asked) } };
}

function words(spec: SetSpec): string {
  switch (spec.kind) {
    case 'selector':
      return spec.selector.text;
    case 'nets':
      return spec.nets.join(' ');
    case 'namedPort':
      return `${spec.port}/${spec.protocol} of ${spec.selector.text}`;
    case 'service':
      return `${spec.namespace}/${spec.name}${spec.withPorts ? ' with ports' : ''}`;
  }
}

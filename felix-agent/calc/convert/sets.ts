/** The sets of addresses that rules refer to. Equal ids mean equal sets, in any policy. */
import { tryParseNet, type CidrText, type Family } from '#api/cidr.ts';
import { hashId } from '#api/hash-id.ts';
import type { Selector } from '#api/selector/selector.ts';
import type { SetSpec } from '../model.ts';
import { ConversionError } from './problem.ts';

/** The set of a Service's endpoints. */
export type ServiceSet = Extract<SetSpec, { kind: 'service' }>;

/** One network of a rule is in the rule, more are a set. */
export interface NetsMatch {
  readonly net?: CidrText;
  readonly set?: SetSpec;
  /** The family of all of them; undefined for both, and for none. */
  readonly family?: Family;
}

/** Networks in any spelling; host bits mean nothing. /0 stays as it is. Throws `ConversionError`. */
export function netsMatch(texts: readonly string[]): NetsMatch {
  if (texts.length === 0) {
    return {};
  }
  const families = new Set<Family>();
  const nets = new Set<CidrText>();
  for (const text of texts) {
    const net = tryParseNet(text);
    if (net === undefined) {
      throw new ConversionError(`${text} is neither an address nor a network`);
    }
    families.add(net.family);
    nets.add(net.text);
  }
  const [first] = nets;
  const [family] = families;
  return {
    ...(nets.size === 1 && first !== undefined ? { net: first } : { set: netsSet([...nets].sort()) }),
    ...(families.size === 1 && family !== undefined ? { family } : {}),
  };
}

/** `nets` is canonical, sorted, each once. */
function netsSet(nets: readonly CidrText[]): SetSpec {
  return { kind: 'nets', id: hashId('n', nets.join(',')), nets };
}

/** What a selector selects: endpoints, host endpoints, network sets. */
export function selectorSet(selector: Selector): SetSpec {
  return { kind: 'selector', id: selector.id, selector };
}

/** Where the endpoints that a selector selects have the port of this name. */
export function namedPortSet(selector: Selector, port: string, protocol: number): SetSpec {
  return { kind: 'namedPort', id: hashId('p', `${selector.text},${protocol},${port}`), selector, port, protocol };
}

/** The endpoints of a Service; `withPorts`: together with their ports. */
export function serviceSet(namespace: string, name: string, withPorts: boolean): ServiceSet {
  return { kind: 'service', id: hashId(withPorts ? 'svp' : 'sva', `${namespace}/${name}`), namespace, name, withPorts };
}

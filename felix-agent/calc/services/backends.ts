import { tryParseIp, type Family, type IpText } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { BackendInfo } from '#dataplanes/services.ts';

type EndpointSlice = KindMap['EndpointSlice'];
type Endpoint = EndpointSlice['endpoints'][number];

/** A slice's endpoints on one of its ports. */
export interface SlicePort {
  readonly name: string;
  /** Undefined: a protocol that doesn't exist. */
  readonly protocol: number | undefined;
  /** 0: the slice gives none, so nobody answers. */
  readonly port: number;
  /** In the order of the addresses' text; each may stand there several times. */
  readonly backends: readonly BackendInfo[];
}

/** What a slice says. */
export interface SliceView {
  readonly ports: readonly SlicePort[];
  /** What of it is impossible and left out. */
  readonly problems: readonly string[];
}

/**
 * Reads slices, each once as long as it lives: a service of many slices of which one has changed is then put together of what is there, and its
 * unchanged backends are the very same objects.
 */
export class SliceReader {
  readonly #views = new WeakMap<EndpointSlice, SliceView>();

  /** `family` is what the slice's addressType says. */
  read(slice: EndpointSlice, family: Family): SliceView {
    let view = this.#views.get(slice);
    if (view === undefined) {
      view = viewOf(slice, family);
      this.#views.set(slice, view);
    }
    return view;
  }
}

/** Of an endpoint's addresses the first is taken: all are the same endpoint's. */
function viewOf(slice: EndpointSlice, family: Family): SliceView {
  const problems: string[] = [];
  const located = slice.endpoints.flatMap((endpoint) => {
    const address = addressOf(endpoint, family);
    if (address !== undefined) return { endpoint, address };
    problems.push(`${endpoint.addresses[0] ?? 'an endpoint without addresses'} is no IPv${family} address`);
    return [];
  });
  located.sort((a, b) => compareText(a.address, b.address));
  const ports = slice.ports.map(({ name, protocol, port = 0 }) => ({
    name,
    protocol: protocolNumber(protocol),
    port,
    backends: port === 0 ? [] : located.map(({ endpoint, address }) => backendOf(endpoint, address, port)),
  }));
  return { ports, problems };
}

/**
 * Several lists as one, in the order of the addresses' text and the ports, with one backend for each. Of several sayings about it one that puts it on
 * this node counts, as in kube-proxy. Where that takes whichever it happens to see first, the better condition counts here, and then the text, so that no
 * order of events makes a difference.
 */
export function mergedBackends(
  lists: readonly (readonly BackendInfo[])[],
  selfNodeName: string,
): readonly BackendInfo[] {
  const all = lists.flat().sort((a, b) => compareTargets(a, b) || compareClaims(a, b, selfNodeName));
  const merged = all.filter((backend, index) => {
    const previous = all[index - 1];
    return previous === undefined || compareTargets(previous, backend) !== 0;
  });
  const [only] = lists;
  // What most services have: one slice, whose list then needn't be kept twice.
  return lists.length === 1 && only?.length === merged.length ? only : merged;
}

function addressOf({ addresses: [text = ''] }: Endpoint, family: Family): IpText | undefined {
  const ip = tryParseIp(text);
  if (ip?.family !== family) return undefined;
  return ip.text === text ? text : ip.text; // The object's own text, so that none is kept twice.
}

/** Unknown conditions count as ready and serving, and not as terminating. */
function backendOf({ conditions = {}, nodeName, zone }: Endpoint, address: IpText, port: number): BackendInfo {
  const { ready = true, serving = true, terminating = false } = conditions;
  return {
    address,
    port,
    ...(nodeName === undefined ? {} : { nodeName }),
    ...(zone === undefined ? {} : { zone }),
    ready,
    serving,
    terminating,
  };
}

/** Negative: of two sayings about the same address and port `a` counts. */
function compareClaims(a: BackendInfo, b: BackendInfo, selfNodeName: string): number {
  return (
    Number(b.nodeName === selfNodeName) - Number(a.nodeName === selfNodeName) ||
    Number(b.ready) - Number(a.ready) ||
    Number(b.serving) - Number(a.serving) ||
    Number(a.terminating) - Number(b.terminating) ||
    compareText(a.nodeName ?? '', b.nodeName ?? '') ||
    compareText(a.zone ?? '', b.zone ?? '')
  );
}

function compareTargets(a: BackendInfo, b: BackendInfo): number {
  return compareText(a.address, b.address) || a.port - b.port;
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

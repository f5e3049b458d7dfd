import { tryParseIp, type Family, type IpText } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { BackendInfo } from '#dataplanes/services.ts';

type EndpointSlice = KindMap['EndpointSlice'];
type Endpoint = EndpointSlice['endpoints'][number];

/** What a slice's port must have in common with the Service's: both. */
export interface PortIdentity {
  readonly name: string;
  /** TCP 6, UDP 17, SCTP 132. */
  readonly protocol: number;
}

/**
 * The backends of each of `ports`, in their order, from slices of one family. A slice's own port number counts, and may be another in each slice. Of
 * an endpoint's addresses the first is taken: all are the same endpoint's.
 */
export function backendsOf(
  ports: readonly PortIdentity[],
  slices: readonly EndpointSlice[],
  family: Family,
  selfNodeName: string,
  problems: Set<string>,
): readonly (readonly BackendInfo[])[] {
  const lists = ports.map((port) => ({ ...port, byTarget: new Map<string, BackendInfo>() }));
  for (const slice of slices) {
    const say = (what: string): void => {
      problems.add(`EndpointSlice ${slice.metadata.name}: ${what}`);
    };
    const targets = slice.ports.flatMap(({ name, protocol, port = 0 }) => {
      const number = protocolNumber(protocol);
      const list = lists.find((candidate) => candidate.name === name && candidate.protocol === number);
      if (list === undefined) return [];
      if (port === 0) say(`port "${name}" has no number`);
      return port === 0 ? [] : { port, list: list.byTarget };
    });
    if (targets.length === 0) continue;
    for (const endpoint of slice.endpoints) {
      const address = addressOf(endpoint, family);
      if (address === undefined) {
        say(`${endpoint.addresses[0] ?? 'an endpoint without addresses'} is no IPv${family} address`);
        continue;
      }
      for (const { port, list } of targets) {
        const backend = backendOf(endpoint, address, port);
        const key = `${address} ${port}`;
        const other = list.get(key);
        if (other === undefined || compareClaims(backend, other, selfNodeName) < 0) list.set(key, backend);
      }
    }
  }
  return lists.map(({ byTarget }) => [...byTarget.values()].sort(compareTargets));
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

/**
 * Negative: of two sayings about the same address and port `a` counts. One that puts it on this node comes first, as in kube-proxy. Where that takes
 * whichever it happens to see first, the better condition counts here, and then the text, so that no order of events makes a difference.
 */
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

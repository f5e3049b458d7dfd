import { parseIp, type IpText } from '#api/cidr.ts';
import { cniCode, CniError, errorText } from './errors.ts';

/** The pod that a runtime names in CNI_ARGS. */
export interface PodRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | undefined;
}

/** What CNI_ARGS says. */
export interface CniArgs {
  /** Undefined for a container that is no Kubernetes pod. */
  readonly pod: PodRef | undefined;
  /** `IP=`: addresses asked for, one of a family at most. */
  readonly ips: readonly IpText[];
  /** `MAC=`, lower case. */
  readonly mac: string | undefined;
}

const knownArgs = new Set([
  'IgnoreUnknown',
  'K8S_POD_NAMESPACE',
  'K8S_POD_NAME',
  'K8S_POD_INFRA_CONTAINER_ID',
  'K8S_POD_UID',
  'IP',
  'MAC',
]);

/** Reads CNI_ARGS (`K=V;K=V`). Throws code 4: a pair that is none, an unknown name without IgnoreUnknown, a value that can't be used. */
export function parseArgs(text: string): CniArgs {
  const args = new Map<string, string>();
  for (const pair of text.split(';')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    if (equals <= 0) throw invalid(`${JSON.stringify(pair)} is not NAME=VALUE`);
    args.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  if (!isTrue(args.get('IgnoreUnknown'))) {
    const unknown = [...args.keys()].filter((name) => !knownArgs.has(name));
    if (unknown.length > 0) throw invalid(`unknown ${unknown.join(', ')} (set IgnoreUnknown=1 to have them ignored)`);
  }
  return { pod: podOf(args), ips: ipsOf(args.get('IP')), mac: macOf(args.get('MAC')) };
}

/** A unicast MAC address in lower case, or undefined. */
export function tryParseMac(text: string): string | undefined {
  const mac = text.toLowerCase();
  const isMac = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac);
  return isMac && mac !== '00:00:00:00:00:00' && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 ? mac : undefined;
}

/** An address without its prefix length (runtimes write `10.0.0.3/24` and `10.0.0.3`). Throws what `parseIp` throws. */
export function bareIp(text: string): IpText {
  return parseIp(text.replace(/\/\d{1,3}$/, '')).text;
}

function podOf(args: ReadonlyMap<string, string>): PodRef | undefined {
  const name = args.get('K8S_POD_NAME') ?? '';
  const namespace = args.get('K8S_POD_NAMESPACE') ?? '';
  if (name === '' && namespace === '') return undefined;
  if (name === '' || namespace === '') throw invalid('K8S_POD_NAMESPACE and K8S_POD_NAME must be given together');
  for (const [variable, value] of [
    ['K8S_POD_NAMESPACE', namespace],
    ['K8S_POD_NAME', name],
  ] as const) {
    // Names of API objects (RFC 1123): they become parts of other names.
    if (value.length > 253 || !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(value)) {
      throw invalid(`${variable} is no object's name: ${JSON.stringify(value)}`);
    }
  }
  return { namespace, name, uid: args.get('K8S_POD_UID') || undefined };
}

function ipsOf(text: string | undefined): readonly IpText[] {
  if (text === undefined || text === '') return [];
  try {
    return text.split(',').map((ip) => bareIp(ip.trim()));
  } catch (error) {
    throw invalid(`IP ${errorText(error)}`, error);
  }
}

function macOf(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  const mac = tryParseMac(text);
  if (mac === undefined) throw invalid(`MAC must be a unicast MAC address (is ${text})`);
  return mac;
}

function isTrue(text: string | undefined): boolean {
  return text === '1' || text?.toLowerCase() === 'true';
}

function invalid(what: string, cause?: unknown): CniError {
  return new CniError(cniCode.invalidEnvironment, `CNI_ARGS: ${what}`, { cause });
}

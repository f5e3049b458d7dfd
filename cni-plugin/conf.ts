import * as z from 'zod/mini';
import { tryParseCidr } from '#api/cidr.ts';
import { rule } from '#api/schema/checks.ts';
import { applySchema } from '#api/schema/parse.ts';
import type { ValidationIssue } from '#api/errors.ts';
import { tryParseMac } from './args.ts';
import { cniCode, CniError } from './errors.ts';
import { CNI_VERSIONS, isCniVersion, type CniVersion } from './versions.ts';

/** Where the agent listens when the conf doesn't say. The launcher's header is generated from it. */
export const DEFAULT_SOCKET = '/run/tortie/cni.sock';

const text = z.string();
const flag = z.boolean();
const count = z.int().check(z.gte(0));
/** Calico writes these two as text. */
const boolText = z.union([z.boolean(), z.enum(['true', 'false'])]);
const texts = z.array(text);
const anything = z.record(z.string(), z.unknown());
const networkText = text.check(
  rule((value) => (tryParseCidr(value) === undefined ? 'must be a network, e.g. 10.1.0.0/16' : undefined)),
);
const macText = text.check(
  rule((value) => (tryParseMac(value) === undefined ? 'must be a unicast MAC address' : undefined)),
);

/** Calico's IPAM keys; others belong to the delegated plugin, which judges them. */
const ipamSchema = z.looseObject({
  type: z.optional(text),
  assign_ipv4: z.optional(boolText),
  assign_ipv6: z.optional(boolText),
  ipv4_pools: z.optional(texts),
  ipv6_pools: z.optional(texts),
  subnet: z.optional(text),
  ranges: z.optional(z.array(z.array(z.looseObject({ subnet: z.optional(text) })))),
  routes: z.optional(z.array(z.looseObject({ dst: networkText }))),
});

const runtimeConfigSchema = z.looseObject({
  ips: z.optional(texts),
  mac: z.optional(macText),
  /** The plugin `bandwidth`'s; runtimes give it to us only where the conf lists the capability for us, too. */
  bandwidth: z.optional(z.looseObject({ egressRate: z.optional(z.number()) })),
});

const dnsSchema = z.looseObject({
  nameservers: z.optional(texts),
  domain: z.optional(text),
  search: z.optional(texts),
  options: z.optional(texts),
});

const attachments = z.array(z.looseObject({ containerID: text, ifname: text }));

/** Every key of Calico's conf, the specification's, and our three; `docs/design/cni.md` says which ones act. */
const confSchema = z.object({
  cniVersion: z.optional(text),
  name: text.check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, 'must be letters, digits, _ . and -'), z.maxLength(250)),
  type: z.optional(text),
  socket: z.optional(text),
  standalone: z.optional(flag),
  node: z.optional(text),
  ipam: z.optional(ipamSchema),
  mtu: z.optional(count.check(z.lte(65535))),
  num_queues: z.optional(count.check(z.lte(4096))),
  container_settings: z.optional(z.looseObject({ allow_ip_forwarding: z.optional(flag) })),
  feature_control: z.optional(z.looseObject({ ip_addrs_no_ipam: z.optional(flag), floating_ips: z.optional(flag) })),
  include_default_routes: z.optional(flag),
  dataplane_options: z.optional(z.looseObject({ type: z.optional(text) })),
  device_type: z.optional(z.enum(['', 'veth', 'netkit'])),
  runtimeConfig: z.optional(runtimeConfigSchema),
  args: z.optional(anything),
  capabilities: z.optional(anything),
  dns: z.optional(dnsSchema),
  prevResult: z.optional(z.unknown()),
  disableCheck: z.optional(flag),
  disableGC: z.optional(flag),
  loadOnlyInlinedPlugins: z.optional(flag),
  'cni.dev/valid-attachments': z.optional(attachments),
  'cni.dev/attachments': z.optional(attachments),
  nodename: z.optional(text),
  nodename_file: z.optional(text),
  nodename_file_optional: z.optional(flag),
  hostname: z.optional(text),
  require_mtu_file: z.optional(flag),
  datastore_type: z.optional(text),
  etcd_endpoints: z.optional(text),
  etcd_discovery_srv: z.optional(text),
  etcd_authority: z.optional(text),
  etcd_scheme: z.optional(text),
  etcd_key_file: z.optional(text),
  etcd_cert_file: z.optional(text),
  etcd_ca_cert_file: z.optional(text),
  kubernetes: z.optional(anything),
  policy: z.optional(anything),
  readiness_gates: z.optional(texts),
  policy_setup_timeout_seconds: z.optional(count),
  endpoint_status_dir: z.optional(text),
  log_level: z.optional(text),
  log_file_path: z.optional(text),
  log_file_max_size: z.optional(count),
  log_file_max_age: z.optional(count),
  log_file_max_count: z.optional(count),
  ipam_lock_file: z.optional(text),
  qps: z.optional(z.number()),
  burst: z.optional(count),
  calico_api_group: z.optional(text),
});

/** Their job is done elsewhere here: the agent has a connection, a name, a log and a policy wait of its own. Saying so once is enough. */
const withoutEffect = new Set([
  ...[
    'nodename',
    'nodename_file',
    'nodename_file_optional',
    'hostname',
    'require_mtu_file',
    'etcd_endpoints',
    'etcd_discovery_srv',
  ],
  ...['etcd_authority', 'etcd_scheme', 'etcd_key_file', 'etcd_cert_file', 'etcd_ca_cert_file', 'kubernetes', 'policy'],
  ...[
    'readiness_gates',
    'policy_setup_timeout_seconds',
    'endpoint_status_dir',
    'log_level',
    'log_file_path',
    'log_file_max_size',
  ],
  ...['log_file_max_age', 'log_file_max_count', 'ipam_lock_file', 'qps', 'burst', 'calico_api_group'],
]);

type RawConf = z.infer<typeof confSchema>;

/** The conf of one call, checked. Keys are the conf's own. */
export interface NetConf extends Omit<RawConf, 'cniVersion'> {
  readonly cniVersion: CniVersion;
}

/** A conf with what delegated plugins get (the JSON as it came) and what is to be said of it. */
export interface ParsedConf {
  readonly conf: NetConf;
  readonly json: Readonly<Record<string, unknown>>;
  readonly unknownKeys: readonly string[];
  readonly keysWithoutEffect: readonly string[];
}

/** Standard input as a JSON object. Throws code 6. */
export function decodeStdin(stdin: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(stdin);
  } catch (error) {
    throw new CniError(cniCode.undecodable, `standard input is no JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CniError(cniCode.undecodable, 'standard input must be a JSON object: the network configuration');
  }
  return value as Readonly<Record<string, unknown>>;
}

/** Checks the conf. Throws code 1 for a version that we don't speak, 7 for a value that can't be used (naming the key), 2 for a wish that we can't meet. */
export function parseConf(json: Readonly<Record<string, unknown>>): ParsedConf {
  const outcome = applySchema<RawConf>(confSchema, json, 'keep');
  if (!outcome.ok) throw new CniError(cniCode.invalidConf, `network configuration: ${issueText(outcome.issues)}`);
  const { cniVersion } = outcome.value;
  if (!isCniVersion(cniVersion)) {
    throw new CniError(cniCode.incompatibleVersion, `cniVersion ${cniVersion ?? '(none given)'} is not supported`, {
      details: `supported are ${CNI_VERSIONS.join(', ')}`,
    });
  }
  const conf: NetConf = { ...outcome.value, cniVersion };
  const dataplane = conf.dataplane_options?.type;
  if (dataplane !== undefined && dataplane !== '') {
    throw new CniError(cniCode.unsupportedField, `dataplane_options.type ${dataplane} is not supported: leave it out`);
  }
  return {
    conf,
    json,
    unknownKeys: outcome.unknownFields.filter((path) => !path.includes('.') && !path.includes('[')),
    keysWithoutEffect: Object.keys(json).filter((key) => withoutEffect.has(key)),
  };
}

/** The plugin that gives addresses, if it isn't ours. Throws code 7 for a name that could leave CNI_PATH. */
export function delegatedIpam(conf: NetConf): string | undefined {
  const type = conf.ipam?.type ?? '';
  if (type === '' || type === 'calico-ipam' || type === 'tortie') return undefined;
  if (type.includes('/') || type === '.' || type === '..') {
    throw new CniError(
      cniCode.invalidConf,
      `network configuration: ipam.type must be a plugin's name (is ${JSON.stringify(type)})`,
    );
  }
  return type;
}

/** assign_ipv4 (default true) and assign_ipv6 (default false). */
export function wantedFamilies(conf: NetConf): { readonly want4: boolean; readonly want6: boolean } {
  return { want4: isYes(conf.ipam?.assign_ipv4, true), want6: isYes(conf.ipam?.assign_ipv6, false) };
}

function isYes(value: boolean | 'true' | 'false' | undefined, fallback: boolean): boolean {
  return value === undefined ? fallback : value === true || value === 'true';
}

function issueText(issues: readonly ValidationIssue[]): string {
  return issues.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ');
}

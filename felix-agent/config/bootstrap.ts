import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { parseDuration } from '#api/felix/duration.ts';
import { CNI_VERSIONS, isCniVersion, type CniVersion } from '#cni/versions.ts';

/** Where the agent finds its objects. */
export type DatastoreRef =
  | { readonly kind: 'files'; readonly dir: string }
  /** Without a kubeconfig: as a pod of the cluster, by its service account. */
  | { readonly kind: 'kubernetes'; readonly kubeconfig: string | undefined };

/** Names and places of one node: flags, else environment, else defaults. */
export interface NodeSettings {
  readonly nodeName: string;
  /** Holds `cni.sock` and `admin.sock`; gone after a reboot. */
  readonly runDir: string;
  /** Journal and endpoints; survives a reboot. */
  readonly stateDir: string;
  /** Where BPF objects are pinned. */
  readonly bpffs: string;
}

/** What the network configuration says that the agent writes for the runtime. */
export interface CniConfSettings {
  /** The runtime's directory. Undefined: none is written. */
  readonly dir: string | undefined;
  readonly version: CniVersion;
  /** Bytes; undefined: the agent finds it. */
  readonly mtu: number | undefined;
}

/** What an agent must know before the datastore can be read. */
export interface BootstrapSettings extends NodeSettings {
  readonly datastore: DatastoreRef;
  readonly cniConf: CniConfSettings;
  /** How long an address must look unused before it is released, in ms; 0: never. */
  readonly ipamLeakGraceMs: number;
  /** FELIX_* variables: they override FelixConfiguration. */
  readonly felixEnv: Readonly<Record<string, string>>;
}

/** A setting that can't be used; the message names flag and variable. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
  readonly code = 'bad-setting';
}

interface SettingSpec {
  readonly flag: string;
  readonly env: string;
  readonly fallback: () => string;
  readonly help: string;
}

/** The one list of bootstrap settings: flags, variables, defaults and help are read from here. */
export const bootstrapSettings = {
  nodeName: {
    flag: 'node-name',
    env: 'TORTIE_NODE_NAME',
    fallback: () => hostname().toLowerCase(),
    help: "this node's name in the datastore (default: the host name, lower case)",
  },
  datastore: {
    flag: 'datastore',
    env: 'TORTIE_DATASTORE',
    fallback: () => '',
    help: 'kubernetes, or files:DIR, a folder of YAML',
  },
  kubeconfig: {
    flag: 'kubeconfig',
    env: 'KUBECONFIG',
    fallback: () => '',
    help: "where and who to the API server (default: the pod's service account)",
  },
  runDir: {
    flag: 'run-dir',
    env: 'TORTIE_RUN_DIR',
    fallback: () => '/run/tortie',
    help: 'sockets (default /run/tortie)',
  },
  stateDir: {
    flag: 'state-dir',
    env: 'TORTIE_STATE_DIR',
    fallback: () => '/var/lib/tortie',
    help: 'journal and endpoints (default /var/lib/tortie)',
  },
  bpffs: {
    flag: 'bpffs',
    env: 'TORTIE_BPFFS',
    fallback: () => '/sys/fs/bpf/tortie',
    help: 'where BPF objects are pinned (default /sys/fs/bpf/tortie)',
  },
  cniConfDir: {
    flag: 'cni-conf-dir',
    env: 'TORTIE_CNI_CONF_DIR',
    fallback: () => '',
    help: "the runtime's network configurations, such as /etc/cni/net.d; the agent keeps 10-tortie.conflist there (default: none)",
  },
  cniBinDir: {
    flag: 'cni-bin-dir',
    env: 'TORTIE_CNI_BIN_DIR',
    fallback: () => '',
    help: "the runtime's plugins, such as /opt/cni/bin; for install and cleanup",
  },
  cniVersion: {
    flag: 'cni-version',
    env: 'TORTIE_CNI_VERSION',
    fallback: () => '',
    help: 'cniVersion of the configuration that the agent writes (default 1.0.0)',
  },
  cniMtu: {
    flag: 'cni-mtu',
    env: 'TORTIE_CNI_MTU',
    fallback: () => '',
    help: "MTU of pods' interfaces there, in bytes (default: the node's)",
  },
  ipamLeakGrace: {
    flag: 'ipam-leak-grace',
    env: 'TORTIE_IPAM_LEAK_GRACE',
    fallback: () => '',
    help: 'how long an address must look unused before it is released, such as 90s or 15m; 0: never (default 15m; only in a cluster)',
  },
} as const satisfies Record<string, SettingSpec>;

type SettingName = keyof typeof bootstrapSettings;

/** `parseArgs` options for the bootstrap flags, so that every command takes them. */
export const bootstrapFlags = Object.fromEntries(
  Object.values(bootstrapSettings).map((spec) => [spec.flag, { type: 'string' as const }]),
);

/** Only the run dir: all that a command needs to ask a running agent. */
export function readRunDir(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): string {
  return absolutePath('runDir', flags, env);
}

/** Where the node's things are. Throws `SettingsError` for a flag or variable that can't be used. */
export function readNodeSettings(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): NodeSettings {
  const nodeName = settingText('nodeName', flags, env);
  if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(nodeName)) {
    throw bad('nodeName', `must be a DNS name of lower-case letters, digits, - and . (is ${JSON.stringify(nodeName)})`);
  }
  return {
    nodeName,
    runDir: absolutePath('runDir', flags, env),
    stateDir: absolutePath('stateDir', flags, env),
    bpffs: absolutePath('bpffs', flags, env),
  };
}

/** The runtime's directories of the node; undefined where none is named. Throws `SettingsError` for a relative path. */
export function readCniDirs(
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
): { readonly confDir: string | undefined; readonly binDir: string | undefined } {
  const dir = (name: 'cniConfDir' | 'cniBinDir') =>
    settingText(name, flags, env) === '' ? undefined : absolutePath(name, flags, env);
  return { confDir: dir('cniConfDir'), binDir: dir('cniBinDir') };
}

/** A ConfigMap gives empty text for what isn't set. */
function readCniConf(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): CniConfSettings {
  const version = settingText('cniVersion', flags, env) || '1.0.0';
  if (!isCniVersion(version))
    throw bad('cniVersion', `must be one of ${CNI_VERSIONS.join(', ')} (is ${JSON.stringify(version)})`);
  const mtuText = settingText('cniMtu', flags, env) || '0';
  const mtu = Number(mtuText);
  // What a veth takes; IPv6 needs 1280, which the kernel says for itself.
  if (!/^\d+$/.test(mtuText) || (mtu !== 0 && (mtu < 68 || mtu > 65535))) {
    throw bad('cniMtu', `must be 68 to 65535, or 0 or empty for the node's (is ${JSON.stringify(mtuText)})`);
  }
  return { dir: readCniDirs(flags, env).confDir, version, mtu: mtu === 0 ? undefined : mtu };
}

/** In ms. A ConfigMap gives empty text for what isn't set. */
function readLeakGrace(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): number {
  const text = settingText('ipamLeakGrace', flags, env) || '15m';
  const ms = text === '0' ? 0 : parseDuration(text);
  if (ms === undefined || ms < 0) {
    throw bad('ipamLeakGrace', `must be a duration such as 90s or 15m, or 0 (is ${JSON.stringify(text)})`);
  }
  return ms;
}

/** The datastore, if one is named. Throws `SettingsError` for one that can't be used. */
export function readDatastoreRef(
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
): DatastoreRef | undefined {
  const text = settingText('datastore', flags, env);
  if (text === '') return undefined;
  const ref = datastoreRef(text);
  const kubeconfig = settingText('kubeconfig', flags, env);
  return ref.kind === 'files' || kubeconfig === ''
    ? ref
    : { ...ref, kubeconfig: absolutePath('kubeconfig', flags, env) };
}

/** Everything that an agent needs. Throws `SettingsError` for a flag or variable that is missing or can't be used. */
export function readBootstrap(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): BootstrapSettings {
  const datastore = readDatastoreRef(flags, env);
  if (datastore === undefined) throw bad('datastore', 'is missing: give kubernetes, or files:DIR with an absolute DIR');
  return {
    ...readNodeSettings(flags, env),
    datastore,
    cniConf: readCniConf(flags, env),
    ipamLeakGraceMs: readLeakGrace(flags, env),
    felixEnv: readFelixEnv(env),
  };
}

/** The FELIX_* variables. */
export function readFelixEnv(env: NodeJS.ProcessEnv): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(env).filter(
      (entry): entry is [string, string] => /^felix_/i.test(entry[0]) && entry[1] !== undefined,
    ),
  );
}

function settingText(name: SettingName, flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): string {
  const { flag, env: variable, fallback } = bootstrapSettings[name];
  const given = flags[flag];
  return (typeof given === 'string' ? given : undefined) ?? env[variable] ?? fallback();
}

function absolutePath(name: SettingName, flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): string {
  const path = settingText(name, flags, env);
  if (!path.startsWith('/')) throw bad(name, `must be an absolute path (is ${JSON.stringify(path)})`);
  return path.replace(/\/+$/, '') || '/';
}

/** As it is written in the setting: `kubernetes` or `files:DIR`. */
export function datastoreRef(text: string): DatastoreRef {
  if (text === 'kubernetes') return { kind: 'kubernetes', kubeconfig: undefined };
  if (!text.startsWith('files:/'))
    throw bad('datastore', `must be kubernetes, or files:DIR with an absolute DIR (is ${JSON.stringify(text)})`);
  return { kind: 'files', dir: text.slice('files:'.length).replace(/\/+$/, '') || '/' };
}

function bad(name: SettingName, what: string): SettingsError {
  const spec = bootstrapSettings[name];
  return new SettingsError(`--${spec.flag} (${spec.env}) ${what}`);
}

/** Splits a command's arguments into bootstrap flags, its own flags and positionals. Throws `SettingsError` on unknown ones. */
export function parseCommandLine(
  args: readonly string[],
  own: Readonly<Record<string, { readonly type: 'string' | 'boolean'; readonly short?: string }>> = {},
): { readonly flags: Readonly<Record<string, unknown>>; readonly positionals: readonly string[] } {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { ...bootstrapFlags, ...own },
      allowPositionals: true,
    });
    return { flags: values, positionals };
  } catch (error) {
    throw new SettingsError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

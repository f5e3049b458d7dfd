/**
 * The plugin without an agent: what the launcher runs for a conf with `"standalone": true`. One call, one process; no policy. Its parts
 * are put together here, as the agent's are in its main program.
 */
import { readFileSync, writeSync } from 'node:fs';
import { systemClock } from '#api/clock.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { openFilesDatastore } from '#datastore/files/files-datastore.ts';
import { DirectIpam } from '#ipam/direct-ipam.ts';
import type { Ipam } from '#ipam/ipam.ts';
import { systemCommandRunner } from '#native/command-runner.ts';
import { KernelFileLock } from '#native/flock.ts';
import { openNetlink } from '#native/netlink.ts';
import { decodeStdin, parseConf, type NetConf } from './conf.ts';
import type { CniAnswer, CniDeps, CniRequest } from './deps.ts';
import { runCni } from './dispatcher.ts';
import { cniCode, CniError, renderError, toCniError } from './errors.ts';
import { kernelNamespaces } from './namespaces.ts';
import { readStandaloneSettings, type StandaloneSettings } from './standalone-settings.ts';
import { EndpointFiles, FileLocks } from './standalone-state.ts';
import { LATEST_CNI_VERSION } from './versions.ts';

/** No call may take longer, in ms; the launcher's limit for ADD and DEL, which ends when it becomes this program. */
const TIME_LIMIT_MS = 90_000;

const request = readRequest();
setTimeout(() => {
  finish(
    failure(
      new CniError(
        cniCode.tryAgain,
        `the standalone plugin was not done with ${request.env['CNI_COMMAND'] ?? ''} in ${TIME_LIMIT_MS / 1000} s`,
      ),
    ),
  );
}, TIME_LIMIT_MS).unref();
finish(await run(request).catch((error: unknown) => failure(toCniError(error))));

function readRequest(): CniRequest {
  const env = Object.entries(process.env).filter(([name]) => name.startsWith('CNI_') || name === 'PATH');
  return { env: Object.fromEntries(env) as Record<string, string>, stdin: readFileSync(0, 'utf8') };
}

async function run(request: CniRequest): Promise<CniAnswer> {
  const settings = readStandaloneSettings(leniently(request.stdin), process.env);
  using host = openNetlink();
  using namespaces = kernelNamespaces();
  await using store = settings.datastoreDir === undefined ? undefined : await openStore(settings.datastoreDir);
  return await runCni(request, makeDeps(settings, { host, namespaces }, store));
}

/** What the settings need; a conf that can't be used is refused by `runCni`, with the right error. */
function leniently(stdin: string): Partial<NetConf> {
  try {
    return parseConf(decodeStdin(stdin)).conf;
  } catch {
    return {};
  }
}

function openStore(dir: string): Promise<Datastore> {
  return openFilesDatastore({
    dir,
    lock: new KernelFileLock(),
    clock: systemClock,
    log: (level, message) => log(level, message),
    settleMs: 0,
  });
}

function makeDeps(
  { nodeName, interfacePrefix, stateDir }: StandaloneSettings,
  { host, namespaces }: Pick<CniDeps, 'host' | 'namespaces'>,
  store: Datastore | undefined,
): CniDeps {
  const needStore = (what: string): Datastore => {
    if (store !== undefined) return store;
    throw new CniError(
      cniCode.invalidConf,
      `network configuration: datastore_type is missing; the standalone plugin needs files:DIR for ${what}`,
    );
  };
  return {
    nodeName,
    interfacePrefix,
    ipam: store === undefined ? withoutStore(needStore) : new DirectIpam(store, nodeName, systemClock),
    endpoints: new EndpointFiles(stateDir),
    host,
    namespaces,
    locks: new FileLocks(stateDir),
    commands: systemCommandRunner,
    pod: async (namespace, name) => {
      const datastore = needStore(`Pod ${namespace}/${name}`);
      const pod = await datastore.get('Pod', { namespace, name });
      return pod === undefined ? undefined : { pod, namespace: await datastore.get('Namespace', { name: namespace }) };
    },
    node: () => needStore(`Node ${nodeName}`).get('Node', { name: nodeName }),
    notReadyReason: async () => {
      const cluster = await store?.get('ClusterInformation', { name: 'default' });
      return cluster !== undefined && cluster.spec.datastoreReady !== true
        ? 'ClusterInformation default says that the datastore is not ready (spec.datastoreReady is not true)'
        : undefined;
    },
    podDeviceOps: () => [],
    linkPodDevice: () => Promise.resolve(),
    // deviceRouteProtocol's default; no metric, so that another route to the same address is noticed.
    podRoutes: () => ({ protocol: 3, metric4: 0, metric6: 0 }),
    defaultMtu: () => undefined,
    standalone: true,
    log,
  };
}

/** Without a datastore there is nothing to give and nothing to give back. */
function withoutStore(needStore: (what: string) => Datastore): Ipam {
  const refuse = async (): Promise<never> => {
    throw needStore('addresses');
  };
  return {
    autoAssign: refuse,
    assignIps: refuse,
    releaseHandle: async () => [],
    addressesOf: async () => [],
    allocations: async () => new Map(),
    unavailableReason: () => 'the network configuration has no datastore_type',
  };
}

/** stdout is the protocol's; runtimes keep stderr for their log. */
function log(
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, unknown>> = {},
): void {
  if (level === 'debug') return;
  writeSync(2, `${JSON.stringify({ level, time: new Date().toISOString(), msg: message, ...fields })}\n`);
}

function failure(error: CniError): CniAnswer {
  return { exitCode: 1, stdout: `${renderError(error, LATEST_CNI_VERSION)}\n` };
}

function finish({ exitCode, stdout }: CniAnswer): never {
  for (let rest = Buffer.from(stdout); rest.length > 0;) rest = rest.subarray(writeSync(1, rest));
  process.exit(exitCode);
}

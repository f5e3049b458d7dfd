import { accessSync, constants, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { Xtables, type Variant, type XtablesError } from '#dataplanes/netfilter/xtables.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import { openNetlink } from '#native/netlink.ts';
import { readNftables } from '#native/nftables.ts';
import type { Family } from '#native/types.ts';
import type { Device, NetfilterFacts, SaveFacts, SysctlFacts } from './facts.ts';
import { sysctlPaths } from './judge-sysctls.ts';
import { known, notKnown, tryToKnow, type Known } from './result.ts';

/** Devices of this network namespace. */
export async function collectDevices(interfacePrefixes: readonly string[]): Promise<readonly Device[]> {
  using netlink = openNetlink();
  const [links, routes, addresses] = await Promise.all([
    netlink.links(),
    netlink.routes({ table: 254 }),
    netlink.addresses(),
  ]);
  const isCandidate = (index: number): boolean => {
    const name = links.find((link) => link.index === index)?.name ?? 'lo';
    return name !== 'lo' && !interfacePrefixes.some((prefix) => name.startsWith(prefix));
  };
  const byDefault = routes.flatMap(({ dst, type, linkIndex }) =>
    (dst === '0.0.0.0/0' || dst === '::/0') && type === 'unicast' && linkIndex !== undefined ? [linkIndex] : [],
  );
  const byAddress = addresses.flatMap(({ scope, linkIndex }) => (scope === 'global' ? [linkIndex] : []));
  const uplinks = new Set((byDefault.length > 0 ? byDefault : byAddress).filter(isCandidate));
  return links.map(({ index, name, kind, mtu, up }) => ({
    name,
    ...(kind === undefined ? {} : { kind }),
    mtu,
    up,
    isUplink: uplinks.has(index),
  }));
}

/** The sysctls that are judged, those of the uplinks among them. */
export function collectSysctls(uplinks: readonly string[]): SysctlFacts {
  const { rpFilter, ...others } = sysctlPaths;
  const paths = [...Object.values(others), ...['all', ...uplinks].map((device) => rpFilter(device))];
  return {
    values: new Map(paths.map((path) => [path, readSysctl(path)])),
    writable: new Set(paths.filter(isWritable)),
  };
}

/** Undefined when the kernel has none of this name, or doesn't let us read it. */
function readSysctl(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(`/proc/sys/${path}`, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Tables and rules: nf_tables over netlink, the variants of iptables by one `-save` each, all at once. */
export async function collectNetfilter(commands: CommandRunner, families: readonly Family[]): Promise<NetfilterFacts> {
  const variants: readonly Variant[] = ['nft', 'legacy'];
  const [nft, ...saves] = await Promise.all([
    tryToKnow(readNftables),
    ...variants.flatMap((variant) => families.map((family) => collectSave(commands, variant, family))),
  ]);
  return { nft, saves: saves.flat() };
}

/** Empty when the tool isn't installed. */
async function collectSave(commands: CommandRunner, variant: Variant, family: Family): Promise<readonly SaveFacts[]> {
  try {
    return [{ variant, family, tables: known(await new Xtables(commands, variant, family).save()) }];
  } catch (error) {
    const { code, message } = error as XtablesError;
    return code === 'XTABLES_MISSING' ? [] : [{ variant, family, tables: notKnown(message) }];
  }
}

/** Where kube-proxy serves its metrics and its mode, and how long it may take, in ms. */
const PROXY_MODE = { url: 'http://127.0.0.1:10249/proxyMode', timeoutMs: 2_000 };

/** kube-proxy's mode by its own word; undefined when nobody, or somebody else, answers. */
export function askProxyMode(): Promise<Known<string | undefined>> {
  return new Promise((resolve) => {
    const call = get(PROXY_MODE.url, { timeout: PROXY_MODE.timeoutMs, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', ({ message }) => resolve(notKnown(`${PROXY_MODE.url}: ${message}`)));
      response.on('end', () => {
        const mode = Buffer.concat(chunks).toString().trim();
        resolve(known(['iptables', 'ipvs', 'nftables'].includes(mode) ? mode : undefined));
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${PROXY_MODE.timeoutMs} ms`)));
    call.on('error', ({ message, code }: NodeJS.ErrnoException) =>
      resolve(code === 'ECONNREFUSED' ? known(undefined) : notKnown(`${PROXY_MODE.url}: ${message}`)),
    );
  });
}

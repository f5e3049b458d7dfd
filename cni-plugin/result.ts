import * as z from 'zod/mini';
import { applySchema } from '#api/schema/parse.ts';
import { cniCode, CniError } from './errors.ts';
import { atLeast, type CniVersion } from './versions.ts';

/** A result in the newest shape (spec 1.1, "ADD Success"); older shapes are written by `renderResult`. */
export interface CniResult {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Readonly<Record<string, unknown>>;
}

export interface ResultInterface {
  readonly name: string;
  readonly mac?: string | undefined;
  readonly mtu?: number | undefined;
  /** The namespace's path; absent on the host. */
  readonly sandbox?: string | undefined;
}

export interface ResultIp {
  /** With prefix length. */
  readonly address: string;
  readonly gateway?: string | undefined;
  /** Index in `interfaces`. */
  readonly interface?: number | undefined;
}

export type ResultRoute = Readonly<Record<string, unknown>> & { readonly dst: string };

const interfaceSchema = z.looseObject({
  name: z.string(),
  mac: z.optional(z.string()),
  mtu: z.optional(z.number()),
  sandbox: z.optional(z.string()),
});
const ipSchema = z.looseObject({
  address: z.string(),
  gateway: z.optional(z.string()),
  interface: z.optional(z.number()),
});
const resultSchema = z.looseObject({
  interfaces: z._default(z.array(interfaceSchema), () => []),
  ips: z._default(z.array(ipSchema), () => []),
  routes: z._default(z.array(z.looseObject({ dst: z.string() })), () => []),
  dns: z._default(z.record(z.string(), z.unknown()), () => ({})),
});

/** The result as the version's readers expect it. */
export function renderResult(result: CniResult, version: CniVersion): string {
  const isNewest = atLeast(version, '1.1.0');
  return JSON.stringify({
    cniVersion: version,
    interfaces: result.interfaces.map(({ name, mac, mtu, sandbox }) => ({
      name,
      mac,
      ...(isNewest ? { mtu } : {}),
      sandbox,
    })),
    ips: result.ips.map((ip) => ({
      ...(atLeast(version, '1.0.0') ? {} : { version: ip.address.includes(':') ? '6' : '4' }),
      interface: ip.interface,
      address: ip.address,
      gateway: ip.gateway,
    })),
    // 1.1 added mtu, advmss, priority, table and scope.
    routes: isNewest ? result.routes : result.routes.map(({ dst, ['gw']: gw }) => ({ dst, gw })),
    dns: result.dns,
  });
}

/** Reads a result of any of our versions: a prevResult, or a delegated plugin's. `what` names it in the error (code 7). */
export function parseResult(raw: unknown, what: string): CniResult {
  const outcome = applySchema<z.infer<typeof resultSchema>>(resultSchema, raw, 'keep');
  if (!outcome.ok) {
    const issues = outcome.issues
      .map(({ path, message }) => (path === '' ? message : `${path}: ${message}`))
      .join('; ');
    throw new CniError(cniCode.invalidConf, `${what}: ${issues}`);
  }
  return outcome.value;
}

import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { tryParseIpInNetwork } from '#api/cidr.ts';
import type { CniDeps } from './deps.ts';
import type { ParsedConf } from './conf.ts';
import { cniCode, CniError, errorText } from './errors.ts';
import { NETNS_VARIABLE } from './protocol.ts';
import { parseResult, type CniResult } from './result.ts';

/** Longer than this a delegated plugin may not take, in ms; then it is killed. */
const DELEGATE_TIMEOUT_MS = 60_000;

export type DelegateVerb = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS';

/** A delegated IPAM plugin, run as the specification says ("Delegated plugins"): found in CNI_PATH, same environment, same conf. */
export class DelegatedIpam {
  readonly #deps: Pick<CniDeps, 'commands' | 'node' | 'nodeName'>;
  readonly #type: string;
  readonly #conf: ParsedConf;
  readonly #env: Readonly<Record<string, string>>;

  constructor(
    deps: Pick<CniDeps, 'commands' | 'node' | 'nodeName'>,
    type: string,
    conf: ParsedConf,
    env: Readonly<Record<string, string>>,
  ) {
    this.#deps = deps;
    this.#type = type;
    this.#conf = conf;
    this.#env = env;
  }

  /** Its result; the addresses are unchanged. Throws the plugin's own error, or code 104. */
  async add(): Promise<CniResult> {
    const stdout = await this.#run('ADD');
    const result = parseResult(this.#decode(stdout), `the answer of IPAM plugin ${this.#type}`);
    if (result.ips.length === 0) {
      throw new CniError(cniCode.delegate, `IPAM plugin ${this.#type} gave no address`);
    }
    for (const { address } of result.ips) {
      if (tryParseIpInNetwork(address) === undefined) {
        throw new CniError(
          cniCode.delegate,
          `IPAM plugin ${this.#type} gave ${JSON.stringify(address)}, which is no address with prefix length`,
        );
      }
    }
    return result;
  }

  /** DEL, CHECK, GC or STATUS: only success counts. */
  async run(verb: Exclude<DelegateVerb, 'ADD'>): Promise<void> {
    await this.#run(verb);
  }

  async #run(verb: DelegateVerb): Promise<string> {
    const file = this.#find();
    const input = JSON.stringify(await this.#confForPlugin());
    const { [NETNS_VARIABLE]: _, ...given } = this.#env;
    const env = { ...given, CNI_COMMAND: verb, CNI_ARGS: withIgnoreUnknown(this.#env['CNI_ARGS'] ?? '') };
    const { status, signal, stdout, stderr } = await this.#deps.commands
      .run(file, [], { input, env, timeoutMs: DELEGATE_TIMEOUT_MS })
      .catch((error: unknown) => {
        throw new CniError(cniCode.delegate, `can't run IPAM plugin ${file}: ${errorText(error)}`, { cause: error });
      });
    if (status === 0) return stdout;
    throw this.#failure(
      verb,
      status === null ? `was ended by ${signal ?? 'a signal'}` : `ended with status ${status}`,
      stdout,
      stderr,
    );
  }

  #failure(verb: DelegateVerb, how: string, stdout: string, stderr: string): CniError {
    try {
      const { code, msg, details } = JSON.parse(stdout) as { code?: unknown; msg?: unknown; details?: unknown };
      if (typeof code === 'number' && Number.isSafeInteger(code) && code > 0 && typeof msg === 'string') {
        return new CniError(code, `IPAM plugin ${this.#type}: ${msg}`, {
          details: typeof details === 'string' ? details : undefined,
        });
      }
    } catch {
      // No JSON: reported as it came, below.
    }
    const said = (stdout.trim() || stderr.trim()).slice(0, 500);
    return new CniError(
      cniCode.delegate,
      `IPAM plugin ${this.#type} ${how} at ${verb}${said === '' ? '' : `: ${said}`}`,
    );
  }

  #find(): string {
    const path = this.#env['CNI_PATH'] ?? '';
    if (path === '')
      throw new CniError(
        cniCode.invalidEnvironment,
        `CNI_PATH is not set; IPAM plugin ${this.#type} is looked for in it`,
      );
    for (const dir of path.split(':')) {
      if (!dir.startsWith('/')) continue;
      const file = join(dir, this.#type);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // Not in this directory.
      }
    }
    throw new CniError(cniCode.invalidConf, `IPAM plugin ${this.#type} is not in CNI_PATH (${path})`);
  }

  #decode(stdout: string): unknown {
    try {
      return JSON.parse(stdout);
    } catch (error) {
      throw new CniError(cniCode.delegate, `IPAM plugin ${this.#type} answered no JSON: ${errorText(error)}`, {
        cause: error,
      });
    }
  }

  /** The conf with Calico's `usePodCidr` and `usePodCidrIPv6` replaced by the node's podCIDRs; Calico does it for host-local alone. */
  async #confForPlugin(): Promise<object> {
    const { json, conf } = this.#conf;
    const subnets = [conf.ipam?.subnet, ...(conf.ipam?.ranges ?? []).flat().map(({ subnet }) => subnet)];
    if (!subnets.some((subnet) => subnet === 'usePodCidr' || subnet === 'usePodCidrIPv6')) return json;
    const spec = (await this.#deps.node())?.spec;
    const cidrs = spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]);
    const replaced = (subnet: unknown): unknown => {
      if (subnet !== 'usePodCidr' && subnet !== 'usePodCidrIPv6') return subnet;
      const wants6 = subnet === 'usePodCidrIPv6';
      const cidr = cidrs.find((text) => text.includes(':') === wants6);
      if (cidr === undefined) {
        throw new CniError(
          cniCode.tryAgain,
          `Node ${this.#deps.nodeName} has no IPv${wants6 ? 6 : 4} podCIDR, which ipam.subnet ${subnet} needs`,
        );
      }
      return cidr;
    };
    const ipam = json['ipam'] as {
      readonly subnet?: unknown;
      readonly ranges?: readonly (readonly { readonly subnet?: unknown }[])[];
    };
    return {
      ...json,
      ipam: {
        ...ipam,
        ...(ipam.subnet === undefined ? {} : { subnet: replaced(ipam.subnet) }),
        ...(ipam.ranges === undefined
          ? {}
          : { ranges: ipam.ranges.map((set) => set.map((range) => ({ ...range, subnet: replaced(range.subnet) }))) }),
      },
    };
  }
}

/** The plugin doesn't know all of the pod's arguments, and must not stumble over them. */
function withIgnoreUnknown(args: string): string {
  const others = args.split(';').filter((pair) => pair !== '' && !pair.startsWith('IgnoreUnknown='));
  return ['IgnoreUnknown=1', ...others].join(';');
}

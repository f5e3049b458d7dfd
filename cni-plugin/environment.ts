import { parseArgs, type CniArgs } from './args.ts';
import { cniCode, CniError } from './errors.ts';

export const cniVerbs = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type CniVerb = (typeof cniVerbs)[number];

/** One attachment of a container, as the runtime names it. */
export interface Environment {
  readonly containerId: string;
  /** The interface's name inside the container. */
  readonly ifname: string;
  /** Path of the network namespace; empty in a DEL whose namespace is gone. */
  readonly netns: string;
  readonly args: CniArgs;
}

type Env = Readonly<Record<string, string>>;

/** The verb of a call. Throws code 4. */
export function verbOf(env: Env): CniVerb {
  const verb = env['CNI_COMMAND'] ?? '';
  if ((cniVerbs as readonly string[]).includes(verb)) return verb as CniVerb;
  throw new CniError(
    cniCode.invalidEnvironment,
    verb === ''
      ? 'CNI_COMMAND is not set: this is a CNI plugin, to be run by a container runtime'
      : `CNI_COMMAND must be one of ${cniVerbs.join(', ')} (is ${JSON.stringify(verb)})`,
  );
}

/** The variables of ADD, DEL and CHECK, as the specification ("CNI operations") demands them. Throws code 4, naming the variable. */
export function readEnvironment(verb: 'ADD' | 'DEL' | 'CHECK', env: Env): Environment {
  const containerId = required(verb, env, 'CNI_CONTAINERID');
  if (containerId.length > 255 || !/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(containerId)) {
    throw invalid(
      'CNI_CONTAINERID',
      'up to 255 letters, digits, _ . and -, beginning with a letter or digit',
      containerId,
    );
  }
  const ifname = required(verb, env, 'CNI_IFNAME');
  if (!isInterfaceName(ifname)) {
    throw invalid(
      'CNI_IFNAME',
      'an interface name: letters, digits, _ . and -, at most 15, with no - at its ends',
      ifname,
    );
  }
  const netns = verb === 'DEL' ? (env['CNI_NETNS'] ?? '') : required(verb, env, 'CNI_NETNS');
  if (netns !== '' && (!netns.startsWith('/') || netns.length > 4095))
    throw invalid('CNI_NETNS', 'an absolute path', netns);
  return { containerId, ifname, netns, args: parseArgs(env['CNI_ARGS'] ?? '') };
}

/** What the kernel takes, less what could not be part of a WorkloadEndpoint's name. */
export function isInterfaceName(text: string): boolean {
  return /^[A-Za-z0-9_.]([A-Za-z0-9_.-]{0,13}[A-Za-z0-9_.])?$/.test(text) && text !== '.' && text !== '..';
}

function required(verb: CniVerb, env: Env, name: string): string {
  const value = env[name] ?? '';
  if (value === '') throw new CniError(cniCode.invalidEnvironment, `${name} is not set; ${verb} needs it`);
  return value;
}

function invalid(name: string, expected: string, value: string): CniError {
  const shown = value.length > 120 ? `${value.slice(0, 117)}...` : value;
  return new CniError(cniCode.invalidEnvironment, `${name} must be ${expected} (is ${JSON.stringify(shown)})`);
}

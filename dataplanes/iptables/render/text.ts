/** Words of iptables rules that hold what comes from users. */

/** Bytes of a comment without the final zero (XT_MAX_COMMENT_LEN). */
const MAX_COMMENT = 255;
/** Bytes of LOG's prefix without the final zero (`struct xt_log_info`). */
const MAX_LOG_PREFIX = 29;
const LOG_PREFIX_END = ': ';

/**
 * Text between the double quotes of an iptables-restore line. Quotes, backslashes, control characters and whatever isn't ASCII become
 * `_`: the tools and the two variants differ in how they print them back. So does what would look like a hash comment of ours.
 */
const quotable = (text: string): string => text.replaceAll(/[^\w .:/@=+,()*-]/g, '_').replaceAll('cali:', 'cali_');

/** Match that is always true and is read by people. Cut to what the kernel takes. */
export const comment = (text: string): string => `-m comment --comment "${quotable(text).slice(0, MAX_COMMENT)}"`;

/** A rule's text of its parts; those that are empty ask nothing. */
export const words = (...parts: readonly string[]): string => parts.filter((part) => part !== '').join(' ');

/** What log rules are told about their policy. */
export interface LogSubject {
  readonly tier: string;
  /** The kind's short name, as kubectl takes it where there is one. */
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
}

/** logPrefix with `%t`, `%k`, `%n` and `%p` (namespace and name) filled in, and `: ` after it; cut to what the kernel takes. */
export function logPrefix(template: string, { tier, kind, namespace, name }: LogSubject): string {
  const path = namespace === undefined ? name : `${namespace}/${name}`;
  const values: Readonly<Record<string, string>> = { t: tier, k: kind, n: name, p: path };
  const text = template.replaceAll(/%([tknp])/g, (whole, letter: string) => values[letter] ?? whole);
  return `${quotable(text).slice(0, MAX_LOG_PREFIX - LOG_PREFIX_END.length)}${LOG_PREFIX_END}`;
}

const SHORT_KINDS: Readonly<Record<string, string>> = {
  NetworkPolicy: 'np',
  GlobalNetworkPolicy: 'gnp',
  KubernetesNetworkPolicy: 'knp',
  ClusterNetworkPolicy: 'cnp',
  StagedNetworkPolicy: 'snp',
  StagedGlobalNetworkPolicy: 'sgnp',
  StagedKubernetesNetworkPolicy: 'sknp',
};

/** Reads a PolicyId: `<kind> [<namespace>/]<name>`. */
export function logSubject(policyId: string, tier: string): LogSubject {
  const [, kind = '', namespace, name = policyId] = /^(\S+) (?:([^/]+)\/)?(.+)$/.exec(policyId) ?? [];
  return { tier, kind: SHORT_KINDS[kind] ?? kind, ...(namespace === undefined ? {} : { namespace }), name };
}

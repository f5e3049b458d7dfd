/** Profiles: the rules that count when no tier has decided, and the labels that endpoints inherit. */
import type { Profile } from '#api/v3/profile.ts';
import type { ProfileId } from '#dataplanes/policy.ts';
import type { CalcRule } from '../model.ts';
import { calcRule } from './rule-parts.ts';
import { convertRules, type Direction, type RulesContext } from './rules.ts';
import { labelKeys } from './selectors.ts';
import { v3Action, v3Parts } from './v3-rule.ts';

/** One profile, whatever it comes from. */
export interface CalcProfile {
  readonly id: ProfileId;
  /** For endpoints that have no label of that name themselves. */
  readonly labels: Readonly<Record<string, string>>;
  readonly ingress: readonly CalcRule[];
  readonly egress: readonly CalcRule[];
  /** As a policy's. */
  readonly problems: readonly string[];
}

/** What is inherited from a namespace or a service account. */
interface Named {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** The profile of containers that are no pods and name none: everything is allowed. */
export const defaultAllowProfile: CalcProfile = allowing('projectcalico-default-allow', {});

/** The profile of a namespace's pods: `kns.<namespace>`. */
export function namespaceProfileId(namespace: string): ProfileId {
  return `kns.${namespace}`;
}

/** The profile of pods of a service account: `ksa.<namespace>.<name>`. */
export function serviceAccountProfileId(namespace: string, name: string): ProfileId {
  return `ksa.${namespace}.${name}`;
}

/** All is allowed; the namespace's labels (with `pcns.` before them) and name are inherited. */
export function profileOfNamespace(namespace: { readonly metadata: Named }): CalcProfile {
  const { name } = namespace.metadata;
  return allowing(namespaceProfileId(name), inherited(namespace.metadata, labelKeys.namespacePrefix));
}

/** No rules; the service account's labels (with `pcsa.` before them) and name are inherited. Without an object, give its name and namespace. */
export function profileOfServiceAccount(account: {
  readonly metadata: Named & { readonly namespace: string };
}): CalcProfile {
  const { name, namespace } = account.metadata;
  return {
    id: serviceAccountProfileId(namespace, name),
    labels: inherited(account.metadata, labelKeys.serviceAccountPrefix),
    ingress: [],
    egress: [],
    problems: [],
  };
}

/** A Profile object. */
export function convertProfile(profile: Profile): CalcProfile {
  const id = profile.metadata.name;
  const problems: string[] = [];
  const context: RulesContext = { kind: 'Profile', owner: ownerOf(id), problems };
  const parts = v3Parts(undefined);
  const rules = (direction: Direction) =>
    convertRules(context, direction, profile.spec[direction] ?? [], v3Action, parts);
  return {
    id,
    labels: profile.spec.labelsToApply ?? {},
    ingress: rules('ingress'),
    egress: rules('egress'),
    problems,
  };
}

function allowing(id: ProfileId, labels: Readonly<Record<string, string>>): CalcProfile {
  const allow = (direction: Direction) => [calcRule(`${ownerOf(id)} ${direction} 0`, { action: 'allow' })];
  return { id, labels, ingress: allow('ingress'), egress: allow('egress'), problems: [] };
}

/** The name is added last: a namespace can't pass for another by a label. */
function inherited({ name, labels = {} }: Named, prefix: string): Readonly<Record<string, string>> {
  const own = Object.entries(labels).map(([key, value]): [string, string] => [`${prefix}${key}`, value]);
  return Object.fromEntries([...own, [`${prefix}${labelKeys.name}`, name]]);
}

function ownerOf(id: ProfileId): string {
  return `Profile ${id}`;
}

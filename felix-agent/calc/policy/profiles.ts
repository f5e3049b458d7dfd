import type { ProfileId } from '#dataplanes/policy.ts';
import {
  defaultAllowProfile,
  profileOfNamespace,
  profileOfServiceAccount,
  type CalcProfile,
} from '../convert/convert.ts';
import { calcRule } from '../convert/rule-parts.ts';
import type { Changes } from '../pending.ts';
import type { SetStore } from '../sets/set-store.ts';
import { AnnouncedRules, type RuleMessage } from './announced-rules.ts';
import { ruleInfos } from './rule-info.ts';

/** What an endpoint is, as far as its profiles' meaning depends on it. */
export type ProfileUser = 'pod' | 'container' | 'host';

/**
 * The profiles that this node's endpoints use. A pod is in its namespace and has its account whether or not these objects have been
 * seen, so its profiles always exist. A container's network is a profile, too, as Calico's plugin would have made it: within the network
 * everything is allowed, and outwards. Any other profile exists only as an object; one that doesn't is never announced.
 */
export class Profiles {
  readonly #given = new Map<ProfileId, CalcProfile>();
  readonly #users = new Map<ProfileId, Record<ProfileUser, number>>();
  readonly #dirty = new Set<ProfileId>();
  readonly #announced: AnnouncedRules;

  constructor(sets: SetStore) {
    this.#announced = new AnnouncedRules(sets);
  }

  /** Profiles from objects: Profile, Namespace, ServiceAccount. */
  get givenCount(): number {
    return this.#given.size;
  }

  /** What could not be converted. */
  *problems(): Generator<readonly [ProfileId, readonly string[]]> {
    for (const [id, { problems }] of this.#given) if (problems.length > 0) yield [`Profile ${id}`, problems];
  }

  set(id: ProfileId, profile: CalcProfile | undefined): void {
    if (profile === undefined) this.#given.delete(id);
    else this.#given.set(id, profile);
    if (this.#users.has(id)) this.#dirty.add(id);
  }

  /** An endpoint of this node begins to use these. */
  use(ids: readonly ProfileId[], user: ProfileUser): void {
    for (const id of ids) {
      const users = this.#users.get(id) ?? { pod: 0, container: 0, host: 0 };
      // What it means depends on who uses it, not on how many do.
      if (users[user]++ === 0) this.#dirty.add(id);
      this.#users.set(id, users);
    }
  }

  release(ids: readonly ProfileId[], user: ProfileUser): void {
    for (const id of ids) {
      const users = this.#users.get(id);
      if (users === undefined) continue;
      if (--users[user] > 0) continue;
      if (users.pod + users.container + users.host === 0) this.#users.delete(id);
      this.#dirty.add(id);
    }
  }

  /** What is to be said; acquires and releases sets, so it comes before theirs. */
  take(): Changes<RuleMessage> {
    for (const id of this.#dirty) {
      const users = this.#users.get(id);
      const profile = users === undefined ? undefined : (this.#given.get(id) ?? derived(id, users));
      this.#announced.set(
        id,
        profile,
        profile && {
          type: 'profileUpdate',
          id,
          profile: { ingress: ruleInfos(profile.ingress), egress: ruleInfos(profile.egress) },
        },
        { type: 'profileRemove', id },
      );
    }
    this.#dirty.clear();
    return this.#announced.take();
  }
}

function derived(id: ProfileId, { pod, container }: Record<ProfileUser, number>): CalcProfile | undefined {
  if (id === defaultAllowProfile.id) return defaultAllowProfile;
  if (pod > 0) {
    const [prefix, namespace = '', ...account] = id.split('.');
    if (prefix === 'kns') return profileOfNamespace({ metadata: { name: namespace } });
    if (prefix === 'ksa') return profileOfServiceAccount({ metadata: { name: account.join('.'), namespace } });
  }
  return container > 0 ? networkProfile(id) : undefined;
}

/**
 * Of a container that is no pod: everybody may talk to it and it to everybody until a policy selects it, as with pods. (The profile that Calico's plugin
 * writes lets in only what is of the same network, and with it no client of a published port.)
 */
function networkProfile(network: string): CalcProfile {
  return {
    id: network,
    labels: {},
    ingress: [calcRule(`Profile ${network} ingress 0`, { action: 'allow' })],
    egress: [calcRule(`Profile ${network} egress 0`, { action: 'allow' })],
    problems: [],
  };
}

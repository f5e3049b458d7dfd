import type { ApplyFailure } from '../contract.ts';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '../messages.ts';
import type { PolicyId, ProfileId, ProfileInfo, RuleInfo } from '../policy.ts';

/** What becomes of an endpoint: it is open, it is closed because that is its policy, or because its policy can't be enforced. */
export type AdmissionVerdict =
  | { readonly opens: true }
  /** `reason`: it ought to be open for some packets. */
  | { readonly opens: false; readonly reason?: string };

const REASON = 'the ebpf dataplane does not enforce policy';

/**
 * Which endpoints may be opened while the programs know no policy: those for which everything is allowed. Whoever a policy selects stays
 * closed and is reported, as is every host endpoint: policy is never silently left out.
 */
export class Admission {
  readonly #stagedPolicies = new Set<PolicyId>();
  readonly #profiles = new Map<ProfileId, ProfileInfo>();
  readonly #hosts = new Set<string>();

  /** Records an update; true if verdicts of known endpoints may change. */
  record(update: DataplaneUpdate): boolean {
    switch (update.type) {
      case 'policyUpdate': {
        const was = this.#stagedPolicies.has(update.id);
        if (update.policy.staged) this.#stagedPolicies.add(update.id);
        else this.#stagedPolicies.delete(update.id);
        return was !== update.policy.staged;
      }
      case 'policyRemove':
        return this.#stagedPolicies.delete(update.id);
      case 'profileUpdate':
        this.#profiles.set(update.id, update.profile);
        return true;
      case 'profileRemove':
        return this.#profiles.delete(update.id);
      case 'hostEndpointUpdate':
        this.#hosts.add(update.id);
        return false;
      case 'hostEndpointRemove':
        this.#hosts.delete(update.id);
        return false;
      default:
        return false;
    }
  }

  of({ tiers, profiles }: Pick<WorkloadEndpointInfo, 'tiers' | 'profiles'>): AdmissionVerdict {
    for (const { ingress, egress } of tiers) {
      const policy = [...ingress, ...egress].find((id) => !this.#stagedPolicies.has(id));
      if (policy !== undefined) return { opens: false, reason: `${REASON}, and ${policy} selects it` };
    }
    // What comes after a profile that isn't defined doesn't count: that one denies.
    const undefinedAt = profiles.findIndex((id) => !this.#profiles.has(id));
    const known = (undefinedAt < 0 ? profiles : profiles.slice(0, undefinedAt)).flatMap(
      (id) => this.#profiles.get(id) ?? [],
    );
    const outcomes = (['ingress', 'egress'] as const).map((direction) =>
      outcomeOf(known.flatMap((profile) => profile[direction])),
    );
    if (outcomes.every((outcome) => outcome === 'allow')) return { opens: true };
    if (outcomes.every((outcome) => outcome === 'deny')) return { opens: false };
    return { opens: false, reason: `${REASON}, and the rules of its profiles (${profiles.join(', ')}) allow a part` };
  }

  /** Every host endpoint. */
  hostFailures(): readonly ApplyFailure[] {
    return [...this.#hosts].map((id) => ({
      object: `host endpoint ${id}`,
      reason: `${REASON}: nothing of it is in force`,
    }));
  }
}

/** What these rules do to every packet alike; `some` if it depends on the packet. None denies. */
function outcomeOf(rules: readonly RuleInfo[]): 'allow' | 'deny' | 'some' {
  const [first] = rules.filter(({ action }) => action !== 'log');
  if (first === undefined) return 'deny';
  if (!matchesAll(first)) return rules.every(({ action }) => action === 'deny' || action === 'log') ? 'deny' : 'some';
  return first.action === 'allow' ? 'allow' : 'deny';
}

function matchesAll({ ipVersion, protocol, notProtocol, icmp, notIcmp, source, destination }: RuleInfo): boolean {
  const asksOfPacket = [ipVersion, protocol, notProtocol, icmp, notIcmp].some((match) => match !== undefined);
  return (
    !asksOfPacket &&
    [source, destination].every(
      ({ net, notNet, ...lists }) =>
        net === undefined && notNet === undefined && Object.values(lists).every((list) => list.length === 0),
    )
  );
}

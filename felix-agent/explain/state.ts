import type { PolicyView } from './policy-view.ts';

/** Everything that calc has announced about policy, as plain data for `tortie diags`. */
export function stateOf(view: PolicyView): object {
  const endpoints = Object.fromEntries(view.endpoints());
  const hostEndpoints = Object.fromEntries(view.hostEndpoints());
  const tiers = [...Object.values(endpoints), ...Object.values(hostEndpoints)].flatMap((endpoint) => endpoint.tiers);
  const policies = [...new Set(tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]))].toSorted();
  const sets = Object.fromEntries(
    [...view.sets()].map(([id, { type, about, members }]) => [id, { type, about, members: [...members] }]),
  );
  return {
    config: view.config(),
    endpoints,
    hostEndpoints,
    policies: Object.fromEntries(policies.map((id) => [id, view.policy(id)])),
    sets,
  };
}

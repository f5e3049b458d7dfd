/**
 * Whether the programs behind the filters judge by policy and remember flows. Until they do, an endpoint that a policy selects stays closed and is
 * reported, and netfilter's part stays out.
 */
export const POLICY_IN_FORCE: boolean = false;

import type { CrdRule } from "./rules.ts";
export const clusterNetworkPolicyRules: readonly CrdRule[] = [];

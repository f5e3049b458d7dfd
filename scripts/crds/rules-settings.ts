import type { CrdRule } from "./rules.ts";
export const settingsRules: readonly CrdRule[] = [];

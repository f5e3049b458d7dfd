/** What becomes of every field of every kind: the one table behind `docs/compatibility.md` and the warning in `tortie status`. */
import type { KindName } from '../kinds.ts';
import { clusterTables } from './cluster.ts';
import { policyTables } from './policy.ts';
import type { FieldTable } from './row.ts';
import { settingsTable } from './settings.ts';

export const compatibility: Readonly<Record<KindName, FieldTable>> = {
  ...policyTables,
  ...clusterTables,
  FelixConfiguration: settingsTable,
};

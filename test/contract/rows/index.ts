import type { Row } from '../row.ts';
import { addresses } from './addresses.ts';
import { basics } from './basics.ts';
import { hosts } from './hosts.ts';
import { isolation } from './isolation.ts';
import { life } from './life.ts';
import { nodeServices } from './node-services.ts';
import { operate } from './operate.ts';
import { rules } from './rules.ts';
import { selectors } from './selectors.ts';
import { serviceFlows } from './service-flows.ts';
import { serviceOutside } from './service-outside.ts';
import { servicePolicy } from './service-policy.ts';
import { services } from './services.ts';
import { tiers } from './tiers.ts';
import { uplinks } from './uplinks.ts';

/** The whole table. */
export const rows: readonly Row[] = [
  ...basics,
  ...isolation,
  ...tiers,
  ...selectors,
  ...rules,
  ...hosts,
  ...operate,
  ...life,
  ...addresses,
  ...services,
  ...servicePolicy,
  ...serviceFlows,
  ...serviceOutside,
  ...nodeServices,
  ...uplinks,
];

import type { Row } from '../row.ts';
import { basics } from './basics.ts';

/** The whole table. */
export const rows: readonly Row[] = [...basics];

import * as z from 'zod/mini';
import { fieldsRule } from '../schema/checks.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

const namePart = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const prefixPart = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

function isLabelKey(text: string): boolean {
  const parts = text.split('/');
  const prefix = parts.length === 2 ? parts[0] : undefined;
  const name = parts.at(-1) ?? '';
  return (
    parts.length <= 2 &&
    namePart.test(name) &&
    (prefix === undefined || (prefix.length <= 253 && prefixPart.test(prefix)))
  );
}

function isLabelValue(text: string): boolean {
  return text === '' || namePart.test(text);
}

const keyRule = 'must be the key of a label';
const valueRule = "must be a label's value: at most 63 of letters, digits, '-', '_' and '.'";

/** Kubernetes' label selector: everything given must hold; empty selects everything. */
export const labelSelectorSchema = z
  .object({
    matchLabels: z.optional(z.record(z.string(), z.string())),
    matchExpressions: z.optional(
      z.array(
        z.object({
          key: z.string(),
          /** As in Kubernetes, NotIn is true where the label is missing. */
          operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
          values: z.optional(z.array(z.string())),
        }),
      ),
    ),
  })
  .check(
    fieldsRule(function* ({ matchLabels = {}, matchExpressions = [] }) {
      for (const [key, value] of Object.entries(matchLabels)) {
        if (!isLabelKey(key)) {
          yield { path: ['matchLabels'], message: `${keyRule}, which ${JSON.stringify(key)} is not` };
        } else if (!isLabelValue(value)) {
          yield { path: ['matchLabels', key], message: valueRule };
        }
      }
      for (const [index, { key, operator, values = [] }] of matchExpressions.entries()) {
        const path = ['matchExpressions', index];
        if (!isLabelKey(key)) {
          yield { path: [...path, 'key'], message: keyRule };
        }
        const wantsValues = operator === 'In' || operator === 'NotIn';
        if (wantsValues !== values.length > 0) {
          yield { path: [...path, 'values'], message: `must ${wantsValues ? 'not ' : ''}be empty with ${operator}` };
        }
        for (const [at, value] of values.entries()) {
          if (!isLabelValue(value)) {
            yield { path: [...path, 'values', at], message: valueRule };
          }
        }
      }
    }),
  );

/** Kubernetes' label selector. */
export type LabelSelector = DeepReadonly<z.infer<typeof labelSelectorSchema>>;

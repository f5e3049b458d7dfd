/**
 * Every field of FelixConfiguration, once: the object's schema, the FELIX_* variables, defaults and documentation come from here.
 * Facts: Calico's FelixConfiguration of v3.33, and fields of earlier versions that its users still have.
 */
import * as z from 'zod/mini';
import { dataplaneFields } from './dataplane-fields.ts';
import { ebpfFields } from './ebpf-fields.ts';
import type { FelixField } from './field.ts';
import { processFields } from './process-fields.ts';

export const felixFields = { ...processFields, ...dataplaneFields, ...ebpfFields };
export type FelixFieldName = keyof typeof felixFields;

/** All field names, in the table's order. */
export const felixFieldNames = Object.keys(felixFields) as FelixFieldName[];

/** Every setting with its value: durations are milliseconds, sizes what the field's description says. */
export type FelixSettings = {
  readonly [K in FelixFieldName]: (typeof felixFields)[K] extends FelixField<infer T, infer _S> ? T : never;
};

/** `spec` of a FelixConfiguration: only what is set, as it was written. */
export type FelixSpec = {
  [K in FelixFieldName]?: ((typeof felixFields)[K] extends FelixField<infer _T, infer S> ? S : never) | undefined;
};

/** A row of the table where its types do not matter. */
export function felixField(name: FelixFieldName): FelixField<unknown, unknown> {
  return felixFields[name] as FelixField<unknown, unknown>;
}

/** The variable that sets a field. */
export function felixVariable(name: FelixFieldName): string {
  return `FELIX_${felixField(name).configName.toUpperCase()}`;
}

/** The schema of a FelixConfiguration's `spec`; it fills in no defaults, since less specific objects may have a value. */
export const felixSpecSchema = z.object(
  Object.fromEntries(felixFieldNames.map((name) => [name, z.optional(felixField(name).type.schema)])),
) as unknown as z.ZodMiniType<FelixSpec>;

import type { SettingType } from './types.ts';

/** One field of FelixConfiguration: everything about it that is not its name in the object. */
export interface FelixField<T, S> {
  readonly type: SettingType<T, S>;
  /** Calico's name outside the object; the variable is `FELIX_` and this in upper case. */
  readonly configName: string;
  /** Its default, written as in a variable; empty for none. */
  readonly defaultText: string;
  readonly default: T;
  /** What it is for, and its unit where the type does not say. */
  readonly description: string;
  /** Calico's default where ours differs, and why. */
  readonly differs: string | undefined;
  /** A wrong value in a variable stops the agent instead of being replaced by the default, as in Calico: it would open or cut off the node. */
  readonly fatal: boolean;
}

interface Extra {
  readonly differs?: string;
  readonly fatal?: boolean;
}

/** A row of the table. Throws at start if the default is not a value of the type. */
export function field<T, S>(
  configName: string,
  type: SettingType<T, S>,
  defaultText: string,
  description: string,
  { differs, fatal = false }: Extra = {},
): FelixField<T, S> {
  const initial = defaultText === '' ? type.none : type.readText(defaultText);
  if (initial === undefined) {
    throw new TypeError(`default of ${configName} must be ${type.expected} (is ${defaultText})`);
  }
  return { type, configName, defaultText, default: initial.value, description, differs, fatal };
}

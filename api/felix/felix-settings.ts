/** From FELIX_* variables and FelixConfiguration objects to the settings in force. */
import {
  felixField,
  felixFieldNames,
  felixVariable,
  type FelixFieldName,
  type FelixSettings,
  type FelixSpec,
} from './felix-fields.ts';
import { isNone, type Read } from './types.ts';

/** Where a setting's value is from; the first that has one wins. */
export type FelixSource = 'environment' | 'node' | 'default object' | 'built-in';

/** A variable that could not be used. */
export interface FelixProblem {
  readonly variable: string;
  /** Undefined for a variable that sets nothing. */
  readonly field: FelixFieldName | undefined;
  readonly message: string;
  /** True: the agent must not start with the default instead. */
  readonly fatal: boolean;
}

/** The settings in force, where each is from, and what was wrong. */
export interface ResolvedFelix {
  readonly settings: FelixSettings;
  readonly sources: Readonly<Record<FelixFieldName, FelixSource>>;
  readonly problems: readonly FelixProblem[];
}

export interface FelixInputs {
  /** The process's environment; only FELIX_* counts, in any case. Empty values count as absent. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `spec` of the FelixConfiguration `node.<name>`, if there is one; it has passed validation. */
  readonly node?: FelixSpecView | undefined;
  /** `spec` of the FelixConfiguration `default`, if there is one; it has passed validation. */
  readonly global?: FelixSpecView | undefined;
}

type FelixSpecView = { readonly [K in FelixFieldName]?: unknown };

/** Settings by Calico's precedence: variable, object of the node, object `default`, built-in default. Never throws. */
export function resolveFelix({ env, node, global }: FelixInputs): ResolvedFelix {
  const variables = new Map<string, string>();
  for (const [name, value] of Object.entries(env)) {
    if (/^felix_/i.test(name) && value !== undefined && value !== '') {
      variables.set(name.toUpperCase(), value);
    }
  }
  const settings: Record<string, unknown> = {};
  const sources: Record<string, FelixSource> = {};
  const problems: FelixProblem[] = [];
  for (const name of felixFieldNames) {
    const variable = felixVariable(name);
    const text = variables.get(variable);
    variables.delete(variable);
    const fromEnv = text === undefined ? undefined : readVariable(name, text);
    if (text !== undefined && fromEnv === undefined) {
      problems.push(wrongValue(name, text));
    }
    const fromNode = readSpec(name, node);
    const fromGlobal = readSpec(name, global);
    settings[name] = (fromEnv ?? fromNode ?? fromGlobal ?? { value: felixField(name).default }).value;
    sources[name] = fromEnv ? 'environment' : fromNode ? 'node' : fromGlobal ? 'default object' : 'built-in';
  }
  for (const variable of variables.keys()) {
    problems.push({ variable, field: undefined, message: `${variable} sets nothing that is known here`, fatal: false });
  }
  return {
    settings: Object.freeze(settings) as unknown as FelixSettings,
    sources: Object.freeze(sources) as Record<FelixFieldName, FelixSource>,
    problems,
  };
}

/** `none` switches off what can be; else it may still be one of the field's own words. */
function readVariable(name: FelixFieldName, text: string): Read<unknown> {
  const { type } = felixField(name);
  return (isNone(text) ? type.none : undefined) ?? type.readText(text);
}

function readSpec(name: FelixFieldName, spec: FelixSpec | FelixSpecView | undefined): Read<unknown> {
  const value = spec?.[name];
  return value === undefined ? undefined : felixField(name).type.read(value);
}

function wrongValue(name: FelixFieldName, text: string): FelixProblem {
  const { type, fatal } = felixField(name);
  const variable = felixVariable(name);
  const message = `${variable} must be ${type.expected} (is ${text})${fatal ? '' : '; it is ignored'}`;
  return { variable, field: name, message, fatal };
}

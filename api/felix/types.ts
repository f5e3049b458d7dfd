/**
 * What a FelixConfiguration field may hold: how it looks in the object, how in a FELIX_* variable, and what it becomes. Both forms
 * give the same value, so that code never sees where a setting came from.
 */
import * as z from 'zod/mini';
import { tryParseIp, tryParseNet, type CidrText, type Family, type IpText } from '../cidr.ts';
import { rule } from '../schema/checks.ts';
import { durationPattern, parseDuration } from './duration.ts';

/** A value that was read; undefined: the input is no such value. */
export type Read<T> = { readonly value: T } | undefined;

/** A kind of setting: `T` is what code gets, `S` what stands in the object. */
export interface SettingType<T, S> {
  /** Completes `must be ...`. */
  readonly expected: string;
  /** The field's shape; it also refuses what `read` can't read. */
  readonly schema: z.ZodMiniType<S>;
  /** From the object. */
  readonly read: (value: S) => Read<T>;
  /** From a FELIX_* variable, and from the table's default. */
  readonly readText: (text: string) => Read<T>;
  /** What `none` means; absent where nothing can be switched off. */
  readonly none?: { readonly value: T };
  /** What of `schema`'s check a JSON schema can say; the CustomResourceDefinition says it. */
  readonly limits: SettingLimits;
}

/** A part of a JSON schema. Patterns are RE2's and JavaScript's alike, but for `(?i)` at the start, which is RE2's. */
export interface SettingLimits {
  readonly type?: 'integer';
  readonly minimum?: number;
  readonly maximum?: number;
  readonly pattern?: string;
}

interface Definition<T, S> {
  readonly expected: string;
  readonly limits?: SettingLimits;
  readonly shape: z.ZodMiniType<S>;
  readonly read: (value: S) => T | undefined;
  readonly readText: (text: string) => T | undefined;
  readonly none?: T;
}

/** A kind of setting whose values are never undefined. */
export function settingType<T, S>(definition: Definition<T, S>): SettingType<T, S> {
  const { expected, limits = {}, shape, read, readText, none } = definition;
  const found = (value: T | undefined): Read<T> => (value === undefined ? undefined : { value });
  return {
    expected,
    limits,
    schema: shape.check(rule((value: S) => (read(value) === undefined ? `must be ${expected}` : undefined))),
    read: (value) => found(read(value)),
    readText: (text) => found(readText(text)),
    ...(none === undefined ? {} : { none: { value: none } }),
  };
}

/** The same, but it may be unset: that is its default unless there is another, and what `none` means, in a text field of the object too. */
export function optional<T, S>(type: SettingType<T, S>): SettingType<T | undefined, S> {
  return {
    expected: type.expected,
    limits: type.limits,
    schema: type.schema,
    read: type.read,
    readText: type.readText,
    none: { value: undefined },
  };
}

/** The same for text that an object may have as `none`. */
export function optionalText<T>(type: SettingType<T, string>): SettingType<T | undefined, string> {
  const expected = `${type.expected}, or none`;
  const read = (text: string): Read<T | undefined> => (isNone(text) ? { value: undefined } : type.read(text));
  return {
    expected,
    limits: type.limits.pattern === undefined ? {} : { pattern: orNone(type.limits.pattern) },
    schema: z.string().check(rule((text) => (read(text) === undefined ? `must be ${expected}` : undefined))),
    read,
    readText: type.readText,
    none: { value: undefined },
  };
}

function orNone(pattern: string): string {
  const bare = pattern.replace(/^\(\?i\)/, '');
  return `${bare === pattern ? '' : '(?i)'}^[nN][oO][nN][eE]$|${bare}`;
}

/** Calico's word for switching a setting off. */
export function isNone(text: string): boolean {
  return text.toLowerCase() === 'none';
}

export const bool = settingType<boolean, boolean>({
  expected: 'true or false',
  shape: z.boolean(),
  read: (value) => value,
  readText: (text) => booleans[text.toLowerCase()],
  none: false,
});

const booleans: Readonly<Record<string, boolean>> = {
  true: true,
  '1': true,
  yes: true,
  y: true,
  t: true,
  false: false,
  '0': false,
  no: false,
  n: false,
  f: false,
};

/** A whole number of that range. In a variable also hexadecimal. */
export function int(min: number, max: number): SettingType<number, number> {
  const check = (value: number): number | undefined =>
    Number.isInteger(value) && value >= min && value <= max ? value : undefined;
  return settingType({
    expected: `a whole number from ${min} to ${max}`,
    limits: { type: 'integer', minimum: min, maximum: max },
    shape: z.number(),
    read: check,
    readText: (text) => (/^(-?\d+|0[xX][0-9a-fA-F]+)$/.test(text) ? check(Number(text)) : undefined),
    ...(min <= 0 && max >= 0 ? { none: 0 } : {}),
  });
}

export const portNumber = int(0, 65535);

/** A 32-bit mask with at least two bits set. */
export const markMask = settingType<number, number | string>({
  expected: 'a 32-bit mask with at least two bits set, e.g. 0xffff0000',
  shape: z.union([z.number(), z.string()]),
  read: (value) => readMask(String(value)),
  readText: readMask,
});

function readMask(text: string): number | undefined {
  const value = /^(\d+|0[xX][0-9a-fA-F]+)$/.test(text) ? Number(text) : -1;
  // Two bits: more than a power of two.
  return value > 0 && value <= 0xffffffff && (BigInt(value) & (BigInt(value) - 1n)) !== 0n ? value : undefined;
}

/** A duration, in milliseconds. A variable may have a plain number in `unit`, as Calico demands, or text like the object's. */
export function duration(unit: 'seconds' | 'milliseconds'): SettingType<number, string> {
  const factor = unit === 'seconds' ? 1000 : 1;
  return settingType({
    expected: `a duration, e.g. 90s or 1m30s (in a variable also a number of ${unit})`,
    limits: { pattern: durationPattern.source },
    shape: z.string(),
    read: parseDuration,
    readText: (text) => (/^\d+(\.\d+)?$/.test(text) ? Number(text) * factor : parseDuration(text)),
    none: 0,
  });
}

/** One of these words, in any case; the value is spelled as here. */
export function oneOf<const V extends string>(...words: readonly V[]): SettingType<V, string> {
  const find = (text: string): V | undefined => words.find((word) => word.toLowerCase() === text.toLowerCase());
  return settingType({
    expected: `one of ${words.join(', ')}`,
    limits: { pattern: `(?i)^(${words.join('|')})$` },
    shape: z.string(),
    read: find,
    readText: find,
  });
}

/** Text that matches; never `none`, which is no name of anything. */
export function text(pattern: RegExp, expected: string): SettingType<string, string> {
  const check = (value: string): string | undefined => (pattern.test(value) && !isNone(value) ? value : undefined);
  return settingType({
    expected,
    limits: { pattern: pattern.source },
    shape: z.string(),
    read: check,
    readText: check,
  });
}

export const anyText = text(/^[^\n]+$/, 'text on one line');
export const path = text(/^[^\n]+$/, 'a path');
export const hostAddress = text(/^[a-zA-Z0-9:._+-]{1,64}$/, 'a host name or IP address');
export const interfacePattern = text(
  /^[a-zA-Z0-9:._+-]{1,15}$/,
  'an interface name, where a + at the end stands for anything',
);
/** One prefix or more, in a text. */
export const interfacePrefixes = settingType<readonly string[], string>({
  expected: 'interface name prefixes separated by commas',
  shape: z.string(),
  read: readPrefixes,
  readText: readPrefixes,
});

function readPrefixes(value: string): readonly string[] | undefined {
  const items = splitList(value);
  return items.length > 0 && items.every((item) => /^[a-zA-Z0-9_-]{1,15}$/.test(item) && !isNone(item))
    ? items
    : undefined;
}

/** A regular expression, as its source. */
export const regexp = settingType<string, string>({
  expected: 'a regular expression',
  shape: z.string(),
  read: readPattern,
  readText: readPattern,
});

function readPattern(source: string): string | undefined {
  try {
    RegExp(source);
    return source;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** Interface names, and regular expressions between slashes. */
export const interfaceList = settingType<readonly string[], string>({
  expected: 'interface names, or regular expressions between slashes, separated by commas',
  shape: z.string(),
  read: readInterfaces,
  readText: readInterfaces,
  none: [],
});

function readInterfaces(value: string): readonly string[] | undefined {
  const items = splitList(value);
  return items.every((item) =>
    item.length > 2 && item.startsWith('/') && item.endsWith('/')
      ? readPattern(item.slice(1, -1)) !== undefined
      : /^[a-zA-Z0-9_.-]{1,15}$/.test(item),
  )
    ? items
    : undefined;
}

/** An address of one family. */
export function address(family: Family): SettingType<IpText, string> {
  const read = (value: string): IpText | undefined => {
    const ip = tryParseIp(value);
    return ip?.family === family ? ip.text : undefined;
  };
  return settingType({ expected: `an IPv${family} address`, shape: z.string(), read, readText: read });
}

export const cidrs = listOf<CidrText>('networks or IP addresses', (item) => tryParseNet(item)?.text);
export const interfacePatterns = listOf<string>('interface names, where a + at the end stands for anything', (item) =>
  /^[a-zA-Z0-9:._+-]{1,15}$/.test(item) ? item : undefined,
);

function listOf<T>(
  contents: string,
  read: (item: string) => T | undefined,
): SettingType<readonly T[], readonly string[]> {
  return settingType<readonly T[], readonly string[]>({
    expected: `a list of ${contents} (in a variable separated by commas)`,
    shape: z.array(z.string()),
    read: (items) => readAll(items, read),
    readText: (value) => readAll(splitList(value), read),
    none: [],
  });
}

/** Every item read; undefined if one can't be. */
export function readAll<S, T>(items: readonly S[], read: (item: S) => T | undefined): readonly T[] | undefined {
  const values = items.map(read);
  return values.includes(undefined) ? undefined : (values as T[]);
}

/** The items between commas, without blanks; empty ones do not count. */
export function splitList(value: string): string[] {
  return value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

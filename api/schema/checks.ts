/** Checks that several kinds share. A check says what a value must be; the parser adds what it is. */
import * as z from 'zod/mini';
import { tryParseCidr, tryParseIp, tryParseNet, type Family } from '../cidr.ts';
import { maxSelectorLength, parseSelector } from '../selector/selector.ts';

/** A check by a function that says what is wrong, or undefined. */
export function rule<T>(wrong: (value: T) => string | undefined): z.core.$ZodCheck<T> {
  return z.check<T>((payload) => {
    const message = wrong(payload.value);
    if (message !== undefined) {
      payload.issues.push({ code: 'custom', input: payload.value, message });
    }
  });
}

/** What is wrong with a field, for rules between fields. */
export interface FieldProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** A check between fields of an object: every problem is reported at its own field. Runs only when the fields themselves are fine. */
export function fieldsRule<T>(wrong: (value: T) => Iterable<FieldProblem>): z.core.$ZodCheck<T> {
  return z.check<T>((payload) => {
    for (const { path, message } of wrong(payload.value)) {
      payload.issues.push({ code: 'custom', input: payload.value, path: [...path], message });
    }
  });
}

const labelPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const subdomainPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** A DNS-1123 label: a namespace's name, for example. */
export const dnsLabel = z
  .string()
  .check(
    rule((text) =>
      text.length <= 63 && labelPattern.test(text)
        ? undefined
        : "must be a DNS label: at most 63 of a-z, 0-9 and '-', starting and ending with a letter or digit",
    ),
  );

/** A DNS-1123 subdomain: the name of nearly every object. */
export const dnsSubdomain = z
  .string()
  .check(
    rule((text) =>
      text.length <= 253 && subdomainPattern.test(text)
        ? undefined
        : "must be a DNS subdomain: at most 253 of a-z, 0-9, '-' and '.', each part starting and ending with a letter or digit",
    ),
  );

/** An address without prefix length, of any family or of one. */
export function ip(family?: Family): z.ZodMiniString {
  return z.string().check(
    rule((text) => {
      const parsed = tryParseIp(text);
      return parsed !== undefined && (family === undefined || parsed.family === family)
        ? undefined
        : `must be an IP${family === undefined ? '' : `v${family}`} address`;
    }),
  );
}

/** A network address without host bits. */
export const cidr = z
  .string()
  .check(
    rule((text) =>
      tryParseCidr(text) === undefined ? 'must be a network address, e.g. 10.65.0.0/16 or fd00:10::/64' : undefined,
    ),
  );

/** A network, or an address alone; host bits are allowed and mean nothing. */
export const net = z
  .string()
  .check(
    rule((text) =>
      tryParseNet(text) === undefined ? 'must be an IP address or a network, e.g. 10.65.0.0/16' : undefined,
    ),
  );

/** A label selector. */
export const selector = z.string().check(
  rule((text) => {
    if (text.length > maxSelectorLength) {
      return `must be at most ${maxSelectorLength} characters`;
    }
    try {
      parseSelector(text);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }),
);

/** A port number that can be used: 1 to 65535. */
export const port = z.int().check(z.gte(1), z.lte(65535));
/** A port number, or 0 for none. */
export const portOrZero = z.int().check(z.gte(0), z.lte(65535));

/** A Linux interface name. */
export const interfaceName = z
  .string()
  .check(
    rule((text) =>
      /^[a-zA-Z0-9_.-]{1,15}$/.test(text) ? undefined : 'must be an interface name of 1 to 15 characters',
    ),
  );

/** A MAC address, lower case with colons, as the kernel writes it. */
export const mac = z
  .string()
  .check(
    rule((text) =>
      /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ? undefined : 'must be a MAC address, e.g. 02:00:00:00:00:01',
    ),
  );

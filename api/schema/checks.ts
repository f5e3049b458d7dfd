/** Checks that several kinds share. A check says what a value must be; the parser adds what it is. */
import * as z from 'zod/mini';
import { tryParseCidr, tryParseIp, tryParseNet, type Family } from '../cidr.ts';
import { isPortName, parseRulePort } from '../policy/ports.ts';
import { protocolHasPorts, protocolNumber } from '../policy/protocols.ts';
import type { SelectorNode } from '../selector/ast.ts';
import { parseTree } from '../selector/parser.ts';
import { maxSelectorLength } from '../selector/selector.ts';

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
export const selector = selectorWith(() => undefined);

/** A label selector of what a policy or a rule is about: `global()` means something only in a rule's namespaceSelector. */
export const endpointSelector = selectorWith((tree) =>
  hasGlobal(tree) ? "must not use global(): it belongs in a rule's namespaceSelector" : undefined,
);

/** A rule's namespaceSelector: a label selector, or `global()` alone. */
export const peerNamespaceSelector = selectorWith((tree) =>
  tree.op !== 'global' && hasGlobal(tree) ? 'must have global() alone, or not at all' : undefined,
);

/** Text that is a selector and more. Only its tree is made: whoever judges by a selector needs more, but not here. */
function selectorWith(wrong: (tree: SelectorNode) => string | undefined): z.ZodMiniString {
  return z.string().check(
    z.maxLength(maxSelectorLength),
    rule((text) => {
      try {
        return wrong(parseTree(text));
      } catch (error) {
        return (error as Error).message;
      }
    }),
  );
}

function hasGlobal(node: SelectorNode): boolean {
  switch (node.op) {
    case 'global':
      return true;
    case 'not':
      return hasGlobal(node.operand);
    case 'and':
    case 'or':
      return node.operands.some(hasGlobal);
    default:
      return false;
  }
}

const protocolRule = 'must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255';

/** An IP protocol by name or number; `protocolNumber` reads it. */
export const protocol = z.union(
  [
    z.string().check(rule((text) => (protocolNumber(text) === undefined ? protocolRule : undefined))),
    z.int().check(z.gte(1), z.lte(255)),
  ],
  { error: protocolRule },
);

/** A protocol that has ports: TCP, UDP or SCTP, by name or number. */
export const portProtocol = protocol.check(
  rule((value) => {
    const number = protocolNumber(value);
    return number === undefined || protocolHasPorts(number)
      ? undefined
      : 'must be TCP, UDP or SCTP: other protocols have no ports';
  }),
);

const rulePortRule = 'must be a port from 1 to 65535, a range such as 1000:2000, or the name of a port';

/** An entry of a rule's `ports`; `parseRulePort` reads it. */
export const rulePort = z.union(
  [
    z.string().check(rule((text) => (parseRulePort(text) === undefined ? rulePortRule : undefined))),
    z.int().check(z.gte(1), z.lte(65535)),
  ],
  { error: rulePortRule },
);

/** The name of a port. */
export const portName = z
  .string()
  .check(
    rule((text) =>
      isPortName(text) ? undefined : "must be a port name: at most 15 of a-z, 0-9 and single inner '-', with a letter",
    ),
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

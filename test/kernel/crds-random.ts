/** Objects that are mostly of the right shape, with values that the rules are about. */
import type { CrdSchema } from '../../scripts/crds/schema.ts';

/** Texts that some rule somewhere is about, right and wrong. */
// oxfmt-ignore
const texts = [
  '', 'a', 'web', 'http', 'a.b', '-', 'A', '*', 'all()', ' all() ', 'global()', 'has(a)', '!has(a)', 'a == "b"', 'a == "global()"', 'a ==', 'has(a) && global()',
  '10.0.0.0/8', '10.0.0.1/8', '10.0.0.1', '10.0.0.1/32', '10.65.0.0/16', '10.65.0.0/28', '010.0.0.0/8', '10.0.0.0/33', '0.0.0.0/0', '::/0', 'fd00::/8', 'fd00::1',
  'FD00::/48', 'fd00:10::/112', 'fe80::/64', '169.254.1.0/24', '128.0.0.0/1', '::ffff:10.0.0.0/104', '::ffff:10.0.0.1', '10.0.0.0/08', 'fd00::1%eth0',
  'TCP', 'tcp', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite', '6', '006', '0006', '17', '256', '0', '80', '0080', '080000', '80:90', '90:80', '80:', '65535', '65536',
  'none', 'None', '90s', '1m30s', '0', '1.5h', '90', 'Drop', 'drop', 'Accept', 'accept', 'Enabled', 'disabled', 'true', '0xffff0000', '0x1', '/a', '/a?b',
  'host:node-1', 'eth0', 'eth+', 'cali', 'cali,tap', '02:00:00:00:00:01', '20000:29999', 'a=b', '10/second', 'EF', 'Auto', '.*', '(', '*.example.com', 'x'.repeat(64),
];
const numbers = [
  0, 1, 2, 3, 4, 5, 6, 17, 19, 20, 26, 32, 33, 58, 80, 116, 122, 128, 129, 132, 254, 255, 256, 1000, 1200, 1201, 65535,
  65536, 1_000_000, 0xffff0000, -1,
];

/** The least object of the kind, with random fields. One field in fifty has a value of any type. */
export function randomObject(
  random: () => number,
  schema: CrdSchema,
  least: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const spec = schema.properties?.['spec'];
  const made = { ...(least['spec'] as object), ...(value(random, spec ?? {}, 0) as object) };
  return { ...least, spec: made };
}

function value(random: () => number, schema: CrdSchema, depth: number): unknown {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  if (depth > 0 && random() < 0.02) return pick<unknown>([pick(texts), pick(numbers), true, [], {}, 1.5, null]);
  if (schema['x-kubernetes-int-or-string'] === true) return random() < 0.5 ? pick(numbers) : pick(texts);
  switch (schema.type) {
    case 'object':
      return schema.properties === undefined
        ? { [pick(texts)]: value(random, schema.additionalProperties ?? {}, depth + 1) }
        : fields(random, schema, depth);
    case 'array':
      return Array.from({ length: Math.floor(random() * 3) }, () => value(random, schema.items ?? {}, depth + 1));
    case 'boolean':
      return random() < 0.5;
    case 'integer':
    case 'number':
      return random() < 0.3 && schema.enum !== undefined ? pick(schema.enum) : pick(numbers);
    default:
      return schema.enum !== undefined && random() < 0.9 ? pick(schema.enum) : pick(texts);
  }
}

/** What must be there, and about three more. */
function fields(random: () => number, { properties = {}, required = [] }: CrdSchema, depth: number): object {
  const entries = Object.entries(properties);
  const chance = 3 / Math.max(entries.length, 3);
  return Object.fromEntries(
    entries
      .filter(([name]) => (required.includes(name) ? random() < 0.97 : random() < chance))
      .map(([name, member]) => [name, value(random, member, depth + 1)]),
  );
}
